// What the user has chosen, as it stands in the address: a link to the page is the state of the page.

/** An item that the hits start from: liked or disliked, with a weight > 0. */
export interface Seed {
  id: string;
  liked: boolean;
  weight: number;
}

export interface Range {
  min?: number;
  max?: number;
}

/** By attribute: any of these values; numbers between; lists that name all of these, or none. */
export interface Filters {
  is: ReadonlyMap<string, string[]>;
  range: ReadonlyMap<string, Range>;
  has: ReadonlyMap<string, string[]>;
  not: ReadonlyMap<string, string[]>;
}

export interface State {
  seeds: Seed[];
  hidden: string[];
  filters: Filters;
  diversity: number;
  view: "hits" | "map";
  /** Where the map was walked to, the last one being looked at. */
  walk: string[];
  hood: boolean;
}

export const MAX_SEEDS = 256;
const MAX_HIDDEN = 300; // an address has to fit into a server's buffer
const WEIGHTED = /^(\d+(?:\.\d+)?)\*(.+)$/s;

export const noFilters = (): Filters => ({ is: new Map(), range: new Map(), has: new Map(), not: new Map() });

export const emptyState = (): State => ({
  seeds: [],
  hidden: [],
  filters: noFilters(),
  diversity: 0,
  view: "hits",
  walk: [],
  hood: false,
});

/** The state that a query string describes; what it cannot mean is left out. */
export function parseState(query: string): State {
  const state = emptyState();
  for (const [name, value] of new URLSearchParams(query)) {
    const [kind, attribute] = split(name);
    if ((name === "like" || name === "dislike") && value) addSeed(state, value, name === "like");
    else if (name === "hide" && value) state.hidden = added(state.hidden, value);
    else if (name === "diversity") state.diversity = clamp(finite(value) ?? 0, 0, 1);
    else if (name === "view" && value === "map") state.view = "map";
    else if (name === "at" && value) state.walk = added(state.walk, value);
    else if (name === "hood") state.hood = value === "1";
    else if (attribute && (kind === "is" || kind === "has" || kind === "not"))
      state.filters = put(state.filters, kind, attribute, added(state.filters[kind].get(attribute) ?? [], value));
    else if (attribute && (kind === "min" || kind === "max") && finite(value) !== undefined)
      state.filters = bounded(state.filters, attribute, {
        ...state.filters.range.get(attribute),
        [kind]: finite(value),
      });
  }
  return state;
}

/** The query string of a state, without `?`; the inverse of `parseState`. */
export function formatState(state: State): string {
  const query = new URLSearchParams();
  for (const { id, liked, weight } of state.seeds) {
    const plain = weight === 1 && !WEIGHTED.test(id);
    query.append(liked ? "like" : "dislike", plain ? id : `${weight}*${id}`);
  }
  for (const id of state.hidden) query.append("hide", id);
  for (const kind of ["is", "has", "not"] as const)
    for (const [attribute, values] of state.filters[kind])
      for (const value of values) query.append(`${kind}.${attribute}`, value);
  for (const [attribute, range] of state.filters.range)
    for (const end of ["min", "max"] as const)
      if (range[end] !== undefined) query.append(`${end}.${attribute}`, String(range[end]));
  if (state.diversity) query.append("diversity", String(state.diversity));
  if (state.view === "map") query.append("view", "map");
  for (const id of state.walk) query.append("at", id);
  if (state.hood) query.append("hood", "1");
  return query.toString();
}

/** Like or dislike an item, with the weight that it has, or 1; it is no longer hidden. */
export function chosen(state: State, id: string, liked: boolean): State {
  const known = state.seeds.some((seed) => seed.id === id);
  const seeds = known
    ? state.seeds.map((seed) => (seed.id === id ? { ...seed, liked } : seed))
    : [...state.seeds, { id, liked, weight: 1 }].slice(-MAX_SEEDS);
  return { ...state, seeds, hidden: state.hidden.filter((each) => each !== id) };
}

export function weighted(state: State, id: string, weight: number): State {
  return { ...state, seeds: state.seeds.map((seed) => (seed.id === id ? { ...seed, weight } : seed)) };
}

export function dropped(state: State, id: string): State {
  return { ...state, seeds: state.seeds.filter((seed) => seed.id !== id) };
}

export function hid(state: State, id: string): State {
  return { ...dropped(state, id), hidden: added(state.hidden, id).slice(-MAX_HIDDEN) };
}

/** Walk the map to an item; one that was visited before cuts the way back to it. */
export function walked(state: State, id: string): State {
  const before = state.walk.indexOf(id);
  return { ...state, walk: before < 0 ? [...state.walk, id] : state.walk.slice(0, before + 1) };
}

/** Put a value into a list of an attribute, or take it out. */
export function toggled(filters: Filters, kind: "is" | "has" | "not", attribute: string, value: string): Filters {
  const now = filters[kind].get(attribute) ?? [];
  const next = now.includes(value) ? now.filter((each) => each !== value) : [...now, value];
  return put(filters, kind, attribute, next.length ? next : undefined);
}

/** Bound an attribute's numbers; no bounds: no filter. */
export function bounded(filters: Filters, attribute: string, range: Range): Filters {
  return put(filters, "range", attribute, range.min === undefined && range.max === undefined ? undefined : range);
}

/** How many conditions there are. */
export function countFilters({ is, range, has, not }: Filters): number {
  return [is, has, not].flatMap((kind) => [...kind.values()]).flat().length + range.size;
}

function put(filters: Filters, kind: keyof Filters, attribute: string, value: string[] | Range | undefined): Filters {
  const next = new Map<string, string[] | Range>(filters[kind]);
  if (value === undefined) next.delete(attribute);
  else next.set(attribute, value);
  return { ...filters, [kind]: next };
}

function split(name: string): [string, string] {
  const dot = name.indexOf(".");
  return dot < 0 ? [name, ""] : [name.slice(0, dot), name.slice(dot + 1)];
}

function addSeed(state: State, text: string, liked: boolean): void {
  const [, number, rest] = WEIGHTED.exec(text) ?? [];
  const weight = clamp(Number(number ?? 1), 0.01, 100);
  const id = rest ?? text;
  if (state.seeds.length < MAX_SEEDS && !state.seeds.some((s) => s.id === id)) state.seeds.push({ id, liked, weight });
}

const added = (list: string[], value: string): string[] => (list.includes(value) ? list : [...list, value]);

const clamp = (value: number, least: number, most: number): number => Math.min(Math.max(value, least), most);

function finite(text: string): number | undefined {
  const value = Number(text);
  return text.trim() && Number.isFinite(value) ? value : undefined;
}
