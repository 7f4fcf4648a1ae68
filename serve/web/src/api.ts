// The HTTP API as the page uses it: addresses relative to the page, so that any route prefix works.

export interface Payload {
  title?: string;
  [attribute: string]: unknown;
}

export interface Item {
  id: string | number;
  payload: Payload;
}

export interface Contribution {
  id?: string | number;
  contribution: number;
}

export interface Hit extends Item {
  score: number | null;
  explain?: Contribution[];
}

export interface Answer {
  snapshot: string;
  hits: Hit[];
  missing_ids: (string | number)[];
  partial: boolean;
  failed_shards: number[];
}

export interface Attribute {
  name: string;
  type: "string" | "int64" | "float64" | "list<string>";
  present: number;
  distinct: number;
  min: number | null;
  max: number | null;
  values: { value: string; count: number }[];
}

export interface Attributes {
  snapshot: string;
  items: number;
  image: string | null;
  attributes: Attribute[];
}

export interface ShardState {
  shard: number;
  row_start: number;
  row_stop: number;
  bytes: number;
  transport: "local" | "actor";
  host: string | null;
  state: "ok" | "away";
}

export interface Health {
  status: "ok" | "degraded" | "unavailable";
  version: string;
  snapshot: string | null;
  items: number | null;
  pairs: number | null;
  shards: ShardState[];
  cache: { memory_bytes: number; redis: string };
  hidden: number;
  problem: string | null;
}

export interface SnapshotInfo {
  name: string;
  created: string;
  encoding: string;
  items: number;
  pairs: number;
  bytes: number;
  shards: number;
  active: boolean;
}

export interface Snapshots {
  active: string | null;
  serving: string | null;
  open: string[];
  snapshots: SnapshotInfo[];
}

/** How an answer came about: milliseconds by stage as the server says, and as the page waited. */
export interface Trace {
  stages: Record<string, number>;
  waited: number;
  cache: string;
  shards: number[];
  path: string;
  body?: unknown;
}

/** An error that the server explains. */
export class Refused extends Error {
  constructor(
    readonly status: number,
    detail: string,
  ) {
    super(detail);
  }
}

/** Whether the server asks for its API key. */
export const isLocked = (error?: Error): boolean => error instanceof Refused && error.status === 401;

/** No answer of the service: it is down, starting, or away behind a proxy. */
export class Unreachable extends Error {}

const KEY = "simshard-key";
const TIMEOUT = 15_000;

/** The API key of this tab, sent with every request. */
export const setKey = (key: string): void => sessionStorage.setItem(KEY, key);

/** The answer to a GET, or to a POST of `body`, with its trace. Throws Refused and Unreachable, and AbortError. */
export async function ask<T>(path: string, signal?: AbortSignal, body?: unknown): Promise<{ answer: T; trace: Trace }> {
  const key = sessionStorage.getItem(KEY);
  const headers = {
    ...(key && { authorization: `Bearer ${key}` }),
    ...(body ? { "content-type": "application/json" } : {}),
  };
  const limit = AbortSignal.timeout(TIMEOUT);
  const started = performance.now();
  let response: Response;
  let text: string;
  try {
    response = await fetch(path, {
      ...(body ? { method: "POST", body: JSON.stringify(body) } : {}),
      headers,
      signal: signal ? AbortSignal.any([signal, limit]) : limit,
    });
    text = await response.text();
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Unreachable("no answer");
  }
  const waited = performance.now() - started;
  const answer = parsed(text);
  if (response.ok && answer !== undefined) {
    const trace = {
      stages: parseTiming(response.headers.get("server-timing") ?? ""),
      waited,
      cache: response.headers.get("x-cache") ?? "",
      shards: (response.headers.get("x-shards") ?? "").split(",").filter(Boolean).map(Number),
      path,
      body,
    };
    return { answer: answer as T, trace };
  }
  const said = answer as { detail?: string; title?: string; problem?: string } | undefined;
  if (said?.title === undefined || response.status === 503)
    throw new Unreachable(said?.detail ?? said?.problem ?? "no answer");
  throw new Refused(response.status, said.detail ?? said.title);
}

/** Milliseconds by stage, of a Server-Timing header. */
export function parseTiming(header: string): Record<string, number> {
  const stages: Record<string, number> = {};
  for (const [, stage, duration] of header.matchAll(/([\w-]+);dur=([\d.]+)/g))
    stages[stage as string] = Number(duration);
  return stages;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
