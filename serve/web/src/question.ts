// From the state to requests, and what an explanation looks like as a bar.

import type { Contribution } from "./api";
import { filterOf } from "./facets";
import type { Seed, State } from "./state";

export const PAGE = 24;

/** The body of POST v1/recommend, without the page; undefined where nothing is liked. */
export function questionOf(state: State): Record<string, unknown> | undefined {
  const seeds = (liked: boolean) =>
    state.seeds.filter((seed) => seed.liked === liked).map(({ id, weight }) => (weight === 1 ? id : { id, weight }));
  const [positive, negative] = [seeds(true), seeds(false)];
  if (!positive.length) return undefined;
  const filter = filterOf(state.filters);
  return {
    positive,
    ...(negative.length && { negative }),
    ...(state.hidden.length && { exclude_ids: state.hidden }),
    ...(filter && { filter }),
    ...(state.diversity && { diversity: state.diversity }),
    ...(state.seeds.length > 1 && { explain: true }),
  };
}

/** The next page behind `known` hits. Diversity orders a whole answer, so there all are asked for again. */
export function pageOf(question: Record<string, unknown>, known: number): Record<string, unknown> {
  return question.diversity
    ? { ...question, limit: Math.min(known + PAGE, 1000) }
    : { ...question, offset: known, limit: PAGE };
}

export interface Segment {
  /** Place of the seed among the chosen ones: its color. */
  seed: number;
  value: number;
}

/** What each seed adds to a score, and takes from it, in the order in which they were chosen. */
export function segmentsOf(explain: Contribution[], seeds: Seed[]): { added: Segment[]; taken: Segment[] } {
  const values = new Map(explain.map(({ id, contribution }) => [String(id), contribution]));
  const segments = seeds.map(({ id }, seed) => ({ seed, value: values.get(id) ?? 0 }));
  return {
    added: segments.filter(({ value }) => value > 0),
    taken: segments.filter(({ value }) => value < 0).map(({ seed, value }) => ({ seed, value: -value })),
  };
}

export const sum = (segments: Segment[]): number => segments.reduce((total, { value }) => total + value, 0);

/** What a full bar stands for: the largest sum of what is added, and at least a perfect similarity of 1. */
export function scaleOf(hits: { score: number | null; explain?: Contribution[] }[]): number {
  const sums = hits.map(({ score, explain }) =>
    explain?.length ? explain.reduce((total, line) => total + Math.max(line.contribution, 0), 0) : (score ?? 0),
  );
  return Math.max(1, ...sums);
}
