// What the components know of address and server.

import { useCallback, useEffect, useRef, useState } from "react";
import { type Answer, ask, type Hit, type Item, Refused, type Trace, Unreachable } from "./api";
import { PAGE, pageOf } from "./question";
import { formatState, parseState, type State } from "./state";

/** The state in the address, and a way to change it; `replace` leaves no step to go back to. */
export function useAddress(): [State, (change: (state: State) => State, replace?: boolean) => void] {
  const [state, setState] = useState(() => parseState(location.search));
  const current = useRef(state);
  useEffect(() => {
    const restore = () => {
      current.current = parseState(location.search);
      setState(current.current);
    };
    addEventListener("popstate", restore);
    return () => removeEventListener("popstate", restore);
  }, []);
  const change = useCallback((next: (state: State) => State, replace = false) => {
    current.current = next(current.current);
    const query = formatState(current.current);
    history[replace ? "replaceState" : "pushState"](null, "", query ? `?${query}` : location.pathname);
    setState(current.current);
  }, []);
  return [state, change];
}

/** A value that follows after it has rested for some milliseconds. */
export function useRested<T>(value: T, ms: number): T {
  const [rested, setRested] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setRested(value), ms);
    return () => clearTimeout(timer);
  }, [value, ms]);
  return rested;
}

export interface Asked<T> {
  value?: T;
  trace?: Trace;
  error?: Error;
  /** An answer is under way; `value` is of the question before. */
  waiting: boolean;
  retry: () => void;
}

const FIRST_WAIT = 500;
const LONGEST_WAIT = 4000;

/** The answer to `load` for each new `key`; undefined asks nothing. While the server is away it is asked again. */
export function useAsked<T>(
  key: string | undefined,
  load: (signal: AbortSignal) => Promise<{ answer: T; trace?: Trace }>,
  period?: number,
): Asked<T> {
  const [now, setNow] = useState<{ key?: string; value?: T; trace?: Trace; error?: Error; waiting: boolean }>({
    waiting: false,
  });
  const [attempt, setAttempt] = useState(0);
  const latest = useRef(load);
  latest.current = load;
  const failures = useRef(0);
  // biome-ignore lint/correctness/useExhaustiveDependencies: `attempt` asks again
  useEffect(() => {
    if (key === undefined) {
      setNow({ waiting: false });
      return;
    }
    const abort = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const again = (ms: number) => {
      timer = setTimeout(() => setAttempt((count) => count + 1), ms);
    };
    setNow((before) => (before.waiting ? before : { ...before, waiting: true }));
    latest.current(abort.signal).then(
      ({ answer, trace }) => {
        if (abort.signal.aborted) return;
        failures.current = 0;
        setNow({ key, value: answer, trace, waiting: false });
        if (period) again(period);
      },
      (error: Error) => {
        if (abort.signal.aborted) return;
        setNow((before) => ({ ...before, error, waiting: false }));
        if (error instanceof Unreachable) again(Math.min(FIRST_WAIT * 2 ** failures.current++, LONGEST_WAIT));
      },
    );
    return () => {
      abort.abort();
      clearTimeout(timer);
    };
  }, [key, attempt, period]);
  const retry = useCallback(() => setAttempt((count) => count + 1), []);
  return { ...now, retry };
}

export interface Hits extends Asked<Answer> {
  /** Whether there may be hits beyond those shown. */
  more: boolean;
  loading: boolean;
  next: () => void;
}

/** The hits for a question, page after page, all of one snapshot. */
export function useHits(question: Record<string, unknown> | undefined): Hits {
  const key = question && JSON.stringify(question);
  const first = useAsked<Answer>(key, (signal) => ask("v1/recommend", signal, pageOf(question ?? {}, 0)));
  const [rest, setRest] = useState<{ of?: Answer; hits: Hit[]; trace?: Trace; ended: boolean; error?: Error }>();
  const [loading, setLoading] = useState(false);
  const mine = rest && rest.of === first.value ? rest : undefined;
  const hits = mine?.hits ?? first.value?.hits ?? [];
  const next = async () => {
    const of = first.value;
    if (!question || !of || loading) return;
    setLoading(true);
    try {
      const body = { ...pageOf(question, hits.length), snapshot: of.snapshot };
      const { answer, trace } = await ask<Answer>("v1/recommend", undefined, body);
      const all = question.diversity ? answer.hits : [...hits, ...answer.hits];
      setRest({ of, hits: all, trace, ended: all.length < hits.length + PAGE || all.length >= 1000 });
    } catch (error) {
      if (error instanceof Refused && error.status === 409)
        first.retry(); // that snapshot is gone: begin anew
      else setRest({ of, hits, ended: false, error: error as Error });
    } finally {
      setLoading(false);
    }
  };
  return {
    ...first,
    value: first.value && { ...first.value, hits },
    trace: mine?.trace ?? first.trace,
    error: mine?.error ?? first.error,
    more: mine ? !mine.ended : (first.value?.hits.length ?? 0) === PAGE,
    loading,
    next,
  };
}

/** The items of some ids, as far as they are known by now: null where the catalogue has none of that id. */
export function useItems(ids: string[], seen: Item[]): ReadonlyMap<string, Item | null> {
  const known = useRef(new Map<string, Item | null>());
  const [, setVersion] = useState(0);
  for (const item of seen) known.current.set(String(item.id), item);
  const missing = ids.filter((id) => !known.current.has(id));
  useAsked(missing.length ? JSON.stringify(missing) : undefined, async (signal) => {
    await Promise.all(
      missing.map(async (id) => {
        const path = `v1/items?limit=1&q=${encodeURIComponent(id)}`; // an id finds its item first, whatever letters it has
        const { answer } = await ask<{ items: Item[] }>(path, signal);
        const item = answer.items[0];
        known.current.set(id, item && String(item.id) === id ? item : null);
      }),
    );
    setVersion((version) => version + 1);
    return { answer: true };
  });
  return known.current;
}

/** The width of an element, in pixels. */
export function useWidth(): [(element: Element | null) => void, number] {
  const [width, setWidth] = useState(0);
  const observer = useRef<ResizeObserver>(undefined);
  const watch = useCallback((element: Element | null) => {
    observer.current?.disconnect();
    if (!element) return;
    observer.current = new ResizeObserver(([entry]) => setWidth(entry?.contentRect.width ?? 0));
    observer.current.observe(element);
  }, []);
  return [watch, width];
}
