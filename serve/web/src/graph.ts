// The similarity map: chosen and visited titles with their neighborhoods, as nodes and links.

import type { Hit, Item } from "./api";
import { titleOf } from "./format";
import type { State } from "./state";

export interface GraphNode {
  id: string;
  title: string;
  item?: Item;
  kind: "liked" | "disliked" | "visited" | "near";
}

/** Between two nodes' ids, with their score. */
export interface GraphLink {
  source: string;
  target: string;
  score: number;
}

const MOST_CENTERS = 8;

/** The items whose neighbors are shown: those visited last, then those chosen. */
export function centersOf(state: State): string[] {
  const ids = [...state.walk.slice(-3).reverse(), ...state.seeds.map(({ id }) => id)];
  return [...new Set(ids)].slice(0, MOST_CENTERS);
}

/** How many neighbors each of so many centers shows, on a narrow screen or a wide one. */
export const neighborsOf = (centers: number, narrow: boolean): number =>
  Math.max(2, Math.ceil((centers === 1 ? 14 : centers <= 3 ? 8 : 5) / (narrow ? 2 : 1)));

/** One node an item, one link a pair, whichever end it was found from. */
export function graphOf(
  state: State,
  centers: string[],
  answers: Hit[][],
  known: ReadonlyMap<string, Item>,
): { nodes: GraphNode[]; links: GraphLink[] } {
  const nodes = new Map<string, GraphNode>();
  const links = new Map<string, GraphLink>();
  const seeds = new Map(state.seeds.map(({ id, liked }) => [id, liked ? "liked" : "disliked"] as const));
  for (const id of centers) {
    const item = known.get(id);
    nodes.set(id, { id, title: item ? titleOf(item) : id, item, kind: seeds.get(id) ?? "visited" });
  }
  centers.forEach((source, place) => {
    for (const hit of answers[place] ?? []) {
      const target = String(hit.id);
      if (!nodes.has(target))
        nodes.set(target, { id: target, title: titleOf(hit), item: hit, kind: seeds.get(target) ?? "near" });
      const key = JSON.stringify([source, target].sort());
      if (hit.score !== null && !links.has(key)) links.set(key, { source, target, score: hit.score });
    }
  });
  // Centers are drawn last, above the others.
  return { nodes: [...nodes.values()].reverse(), links: [...links.values()] };
}
