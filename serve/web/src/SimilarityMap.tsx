import {
  forceCollide,
  forceLink,
  forceManyBody,
  forceSimulation,
  forceX,
  forceY,
  type SimulationLinkDatum,
  type SimulationNodeDatum,
} from "d3-force";
import { useEffect, useMemo, useRef, useState } from "react";
import { type Answer, type Attributes, ask, type Item } from "./api";
import { factsOf, formatScore, tileOf, titleOf } from "./format";
import { centersOf, type GraphLink, type GraphNode, graphOf, neighborsOf } from "./graph";
import { useAsked, useWidth } from "./hooks";
import { Icon } from "./icons";
import { Notice } from "./Notice";
import { questionOf } from "./question";
import type { State } from "./state";

interface Props {
  state: State;
  about?: Attributes;
  known: ReadonlyMap<string, Item>;
  remember: (items: Item[]) => void;
  walk: (id: string) => void;
  home: () => void;
  choose: (id: string, liked: boolean) => void;
}

type Placed = GraphNode & SimulationNodeDatum;
type Bond = SimulationLinkDatum<Placed> & { score: number };

/** Chosen and visited titles with their neighborhoods; a click on a title walks there. */
export function SimilarityMap({ state, about, known, remember, walk, home, choose }: Props) {
  const centers = centersOf(state);
  const narrow = matchMedia("(max-width: 640px)").matches;
  const requests = centers.map((id) => {
    const { filter, exclude_ids } = questionOf({ ...state, seeds: [{ id, liked: true, weight: 1 }] }) ?? {};
    return {
      positive: [id],
      limit: neighborsOf(centers.length, narrow),
      ...(filter ? { filter } : {}),
      ...(exclude_ids ? { exclude_ids } : {}),
    };
  });
  const asked = useAsked<{ centers: string[]; responses: (Partial<Answer> & { detail?: string })[] }>(
    requests.length ? JSON.stringify(requests) : undefined,
    async (signal) => {
      const body = { requests };
      const { answer, trace } = await ask<{ responses: Partial<Answer>[] }>("v1/recommend/batch", signal, body);
      remember(answer.responses.flatMap(({ hits }) => hits ?? []));
      return { answer: { ...answer, centers }, trace };
    },
  );
  // What is shown is of the centers that it was asked for, while others are awaited.
  const answers = asked.value?.responses.map(({ hits }) => hits ?? []);
  const graph = answers && graphOf(state, asked.value?.centers ?? [], answers, known);
  const refused = asked.value?.responses.find(({ detail }) => detail)?.detail;
  const failed = [...new Set(asked.value?.responses.flatMap(({ failed_shards }) => failed_shards ?? []))];
  const focus = state.walk.at(-1) ?? centers[0] ?? "";
  const looked = known.get(focus);
  const seed = state.seeds.find(({ id }) => id === focus);

  return (
    <section className="map" aria-label="Similarity map" aria-busy={asked.waiting}>
      <div className="looked" aria-live="polite">
        <span>
          <b>{looked ? titleOf(looked) : focus}</b>
          <small>{looked && factsOf(looked, about).join(" · ")}</small>
        </span>
        <button type="button" aria-pressed={seed?.liked === true} onClick={() => choose(focus, true)}>
          <Icon name="like" /> Like
        </button>
        <button type="button" aria-pressed={seed?.liked === false} onClick={() => choose(focus, false)}>
          <Icon name="dislike" /> Dislike
        </button>
        {state.walk.length > 0 && (
          <button type="button" onClick={home}>
            Back to the chosen
          </button>
        )}
      </div>
      {state.walk.length > 0 && (
        <ol className="trail" aria-label="The way here">
          {state.walk.map((id) => {
            const item = known.get(id);
            return (
              <li key={id}>
                <button type="button" className="plain" onClick={() => walk(id)}>
                  {item ? titleOf(item) : id}
                </button>
              </li>
            );
          })}
        </ol>
      )}
      <Notice error={asked.error} failedShards={failed} retry={asked.retry} />
      {graph && <Graph {...graph} focus={focus} walk={walk} />}
      {refused && <p className="empty">{refused}</p>}
      {graph && !refused && !graph.links.length && (
        <p className="empty">Nothing is near: no neighbor passes the filters.</p>
      )}
      {!graph && !asked.error && <p className="empty">Drawing the neighborhood…</p>}
      <p className="hint">Thickness is the score. Click a title to walk there.</p>
    </section>
  );
}

const STILL = "(prefers-reduced-motion: reduce)";
const MARGIN = { x: 66, y: 36 };

interface GraphProps {
  nodes: GraphNode[];
  links: GraphLink[];
  focus: string;
  walk: (id: string) => void;
}

function Graph({ nodes, links, focus, walk }: GraphProps) {
  const [watch, width] = useWidth();
  const height = Math.round(Math.min(Math.max(innerHeight - 360, 380), Math.max(width, 380), 640));
  const longest = width < 600 ? 13 : 20;
  const places = useRef(new Map<string, { x: number; y: number }>());
  const [, setTick] = useState(0);
  const key = JSON.stringify([nodes.map(({ id }) => id), links]);
  const largest = Math.max(...links.map(({ score }) => score));
  const least = Math.min(...links.map(({ score }) => score));
  const share = (score: number) => (largest > least ? (score - least) / (largest - least) : 1);

  // biome-ignore lint/correctness/useExhaustiveDependencies: `key` stands for nodes and links
  const { placed, bonds } = useMemo(() => {
    const placed: Placed[] = nodes.map((node) => ({ ...node, ...places.current.get(node.id) }));
    const bonds: Bond[] = links.map((link) => ({ ...link }));
    return { placed, bonds };
  }, [key]);
  for (const node of placed)
    Object.assign(
      node,
      nodes.find(({ id }) => id === node.id),
    ); // liked or visited meanwhile

  // biome-ignore lint/correctness/useExhaustiveDependencies: `share` follows from `bonds`
  useEffect(() => {
    if (!width) return;
    const link = forceLink<Placed, Bond>(bonds)
      .id(({ id }) => id)
      .distance(({ score }) => 70 + 90 * (1 - share(score)));
    const simulation = forceSimulation(placed)
      .force("link", link)
      .force("charge", forceManyBody().strength(-560))
      .force("apart", forceCollide(width < 600 ? 34 : 46))
      .force("x", forceX(width / 2).strength(0.06))
      .force("y", forceY(height / 2).strength(0.12))
      .on("tick", draw);
    function draw() {
      for (const node of placed) {
        node.x = Math.min(Math.max(node.x ?? 0, MARGIN.x), width - MARGIN.x);
        node.y = Math.min(Math.max(node.y ?? 0, MARGIN.y), height - MARGIN.y);
        places.current.set(node.id, { x: node.x, y: node.y });
      }
      setTick((tick) => tick + 1);
    }
    simulation.stop();
    for (const node of placed)
      if (!places.current.has(node.id))
        Object.assign(node, { x: width / 2 + (node.x ?? 0), y: height / 2 + (node.y ?? 0) });
    simulation.tick(matchMedia(STILL).matches ? 300 : 40); // most of the way before the first look
    draw();
    if (!matchMedia(STILL).matches) simulation.alphaDecay(0.05).restart();
    return () => {
      simulation.stop();
    };
  }, [placed, bonds, width, height]);

  return (
    <div ref={watch}>
      {/* biome-ignore lint/a11y/useSemanticElements: a drawing of buttons is a group, not a fieldset */}
      <svg width={width} height={height} role="group" aria-label="Titles and their neighbors">
        <g className="bonds" aria-hidden="true">
          {bonds.map(({ source, target, score }) => {
            const [a, b] = [source, target] as Placed[];
            if (a?.x === undefined || b?.x === undefined) return null;
            const near = a.id === focus || b.id === focus;
            return (
              <line
                key={JSON.stringify([a.id, b.id])}
                className={near ? "near" : ""}
                x1={a.x}
                y1={a.y}
                x2={b.x}
                y2={b.y}
                strokeWidth={1 + 6 * share(score)}
              >
                <title>{formatScore(score)}</title>
              </line>
            );
          })}
        </g>
        {placed.map(({ id, title, kind, x, y }) => (
          // biome-ignore lint/a11y/useSemanticElements: SVG has no button
          <g
            key={id}
            className={`node ${kind}${id === focus ? " focus" : ""}`}
            role="button"
            tabIndex={0}
            aria-current={id === focus}
            transform={`translate(${x ?? width / 2},${y ?? height / 2})`}
            onClick={() => walk(id)}
            onKeyDown={(event) => {
              if (event.key !== "Enter" && event.key !== " ") return;
              event.preventDefault();
              walk(id);
            }}
          >
            <title>{kind === "near" ? title : `${title}, ${kind}`}</title>
            <circle r={kind === "near" ? 15 : 20} style={{ "--hue": tileOf(title).hue } as React.CSSProperties} />
            <text className="initials" dy="0.36em" aria-hidden="true">
              {tileOf(title).initials}
            </text>
            <text className="label" dy={kind === "near" ? 29 : 34} aria-hidden="true">
              {title.length > longest ? `${title.slice(0, longest - 1)}…` : title}
            </text>
          </g>
        ))}
      </svg>
    </div>
  );
}
