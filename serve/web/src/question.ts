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
    ? { ...question, limit: Math.min(known + PAGE, endOf(question)) }
    : { ...question, offset: known, limit: PAGE };
}

/** How many hits there can be at most. */
export const endOf = (question: Record<string, unknown>): number => (question.diversity ? 1000 : 10_000);

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

/** What a full bar stands for: the most that is added, or taken, of any hit. */
export function scaleOf(hits: { score: number | null; explain?: Contribution[] }[]): number {
  const sizes = hits.flatMap(({ score, explain }) => {
    const lines = explain?.map(({ contribution }) => contribution) ?? [score ?? 0];
    return [lines.reduce((total, each) => total + Math.max(each, 0), 0), -Math.min(0, ...lines)];
  });
  return Math.max(...sizes, Number.MIN_VALUE);
}
