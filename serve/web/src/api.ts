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
  /** As text where it is beyond 2^53. */
  min: number | string | null;
  max: number | string | null;
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

/** No answer, for now: the service is down, starting, or overloaded; the message is what it says of that, if anything. */
export class Unreachable extends Error {}

const KEY = "simshard-key";
const TIMEOUT = 15_000;
let kept = ""; // where the browser keeps nothing for us

/** The API key of this tab, or "". */
export function getKey(): string {
  try {
    return sessionStorage.getItem(KEY) ?? kept;
  } catch {
    return kept;
  }
}

/** Send this API key with every request from now on. */
export function setKey(key: string): void {
  kept = key;
  try {
    sessionStorage.setItem(KEY, key);
  } catch {
    // it lasts as long as the page
  }
}

/** Whether a header can hold it. */
export const isKey = (key: string): boolean => /^[\x21-\x7e]+$/.test(key);

/** The answer to a GET, or to a POST of `body`, with its trace. Throws Refused and Unreachable, and AbortError. */
export async function ask<T>(path: string, signal?: AbortSignal, body?: unknown): Promise<{ answer: T; trace: Trace }> {
  const key = getKey();
  const headers = {
    ...(key && { authorization: `Bearer ${key}` }),
    ...(body ? { "content-type": "application/json" } : {}),
  };
  const limit = new AbortController();
  const timer = setTimeout(() => limit.abort(), TIMEOUT);
  const stop = () => limit.abort();
  signal?.addEventListener("abort", stop);
  const started = performance.now();
  let response: Response;
  let text: string;
  try {
    const post = body ? { method: "POST", body: JSON.stringify(body) } : {};
    response = await fetch(path, { ...post, headers, signal: limit.signal });
    text = await response.text();
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Unreachable("");
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", stop);
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
  const told = said?.detail ?? said?.problem ?? said?.title ?? "";
  if (response.status >= 500 || said?.title === undefined) throw new Unreachable(told);
  throw new Refused(response.status, told);
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
