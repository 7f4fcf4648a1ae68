// Filters made from the attributes that a catalogue has, and the filter object that the API takes.

import type { Attribute, Attributes } from "./api";
import type { Filters } from "./state";

/** How an attribute can be filtered: tick some of few values, search among many, or bound numbers. */
export interface Facet {
  name: string;
  kind: "choices" | "tags" | "range";
  /** Whether an item can have many of the values. */
  list: boolean;
  whole: boolean;
  /** Whether there are more values than those listed. */
  more: boolean;
  min: number;
  max: number;
  values: { value: string; count: number }[];
}

const FEW = 12;
const LONGEST = 60;

/** The facets of a catalogue, those that everyone understands first: choices, numbers, then many values. */
export function facetsOf({ attributes, image }: Attributes): Facet[] {
  const facets = attributes.filter(({ name }) => name !== "title" && name !== image).flatMap(facetOf);
  const order = { choices: 0, range: 1, tags: 2 };
  return facets.sort((a, b) => order[a.kind] - order[b.kind]);
}

function facetOf({ name, type, present, distinct, min, max, values }: Attribute): Facet[] {
  const common = {
    name,
    list: type === "list<string>",
    whole: type === "int64",
    more: distinct > values.length,
    min: Number(min),
    max: Number(max),
    values,
  };
  if (type === "int64" || type === "float64")
    return min !== null && max !== null && common.min < common.max ? [{ ...common, kind: "range" }] : [];
  const short = values.filter(({ value }) => value.length <= LONGEST && value.trim());
  const telling = distinct > 1 && distinct <= present / 2 && short.length > values.length / 2; // else addresses or texts
  if (common.list) return short.length ? [{ ...common, values: short, kind: "tags" }] : [];
  return telling ? [{ ...common, values: short, kind: distinct <= FEW ? "choices" : "tags" }] : [];
}

/** The `filter` of a request; undefined where there is none. */
export function filterOf({ is, range, has, not }: Filters): object | undefined {
  const must: object[] = [
    ...[...is].map(([key, any]) => ({ key, match: { any } })),
    ...[...range].map(([key, { min, max }]) => ({
      key,
      range: { ...(min !== undefined && { gte: min }), ...(max !== undefined && { lte: max }) },
    })),
    ...[...has].flatMap(([key, values]) => values.map((value) => ({ key, match: { value } }))),
  ];
  const must_not = [...not].map(([key, any]) => ({ key, match: { any } }));
  if (!must.length && !must_not.length) return undefined;
  return { ...(must.length && { must }), ...(must_not.length && { must_not }) };
}

/** A step for a slider over a range: a power of ten, and some tens or hundreds of them in all. */
export function stepOf({ whole, min, max }: Facet): number {
  const step = 10 ** Math.floor(Math.log10((max - min) / (whole ? 200 : 20)));
  return whole ? Math.max(1, step) : step;
}
