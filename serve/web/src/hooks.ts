// What the components know of address and server.

import { useCallback, useEffect, useRef, useState } from "react";
import { type Answer, ask, type Item, Refused, type Trace, Unreachable } from "./api";
import { endOf, PAGE, pageOf } from "./question";
import { formatState, parseState, type Seed, type State } from "./state";

/** Change the state; `sliding` is one of many changes by a slider, and leaves no step to go back to. */
export type Change = (next: (state: State) => State, sliding?: boolean) => void;

const APART = 80; // milliseconds between the states of a moving slider that are asked for
const WRITTEN = 250; // browsers refuse to have their address written many times a second

/** The state in the address, the same as it is to be asked for, and a way to change it. */
export function useAddress(): [State, State, Change] {
  const [state, setState] = useState(() => parseState(location.search));
  const [settled, setSettled] = useState(state);
  const current = useRef(state);
  const writing = useRef<ReturnType<typeof setTimeout>>(undefined);
  const asking = useRef<ReturnType<typeof setTimeout>>(undefined);
  const write = useCallback((how: "pushState" | "replaceState") => {
    clearTimeout(writing.current);
    writing.current = undefined;
    const query = formatState(current.current);
    history[how](null, "", query ? `?${query}` : location.pathname);
  }, []);
  const settle = useCallback(() => {
    asking.current = undefined;
    setSettled(current.current);
  }, []);
  useEffect(() => {
    const restore = () => {
      clearTimeout(writing.current);
      current.current = parseState(location.search);
      setState(current.current);
      settle();
    };
    addEventListener("popstate", restore);
    return () => removeEventListener("popstate", restore);
  }, [settle]);
  const change = useCallback<Change>(
    (next, sliding = false) => {
      if (!sliding && writing.current) write("replaceState"); // where the slider was left
      current.current = next(current.current);
      setState(current.current);
      if (sliding) {
        clearTimeout(writing.current);
        writing.current = setTimeout(write, WRITTEN, "replaceState");
        if (asking.current) return; // which will ask for this state, or a later one
        setSettled(current.current);
        asking.current = setTimeout(settle, APART);
      } else {
        write("pushState");
        settle();
      }
    },
    [write, settle],
  );
  return [state, settled, change];
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
  /** The last answer; of the question before while `waiting`, and where there is an `error`. */
  value?: T;
  trace?: Trace;
  error?: Error;
  waiting: boolean;
  retry: () => void;
}

interface Settled<T> {
  key?: string;
  value?: T;
  trace?: Trace;
  failed?: { key: string; error: Error };
}

const FIRST_WAIT = 500;
const LONGEST_WAIT = 4000;

/** The answer to `load` for each new `key`, and anew every `period` ms; undefined asks nothing.

While the server is away it is asked again by itself. */
export function useAsked<T>(
  key: string | undefined,
  load: (signal: AbortSignal) => Promise<{ answer: T; trace?: Trace }>,
  period?: number,
): Asked<T> {
  const [now, setNow] = useState<Settled<T>>({});
  const [attempt, setAttempt] = useState(0);
  const latest = useRef(load);
  latest.current = load;
  const failures = useRef(0);
  // biome-ignore lint/correctness/useExhaustiveDependencies: `attempt` asks again
  useEffect(() => {
    if (key === undefined) return;
    const abort = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const again = () => setAttempt((count) => count + 1);
    const later = (ms: number) => {
      timer = setTimeout(() => {
        if (document.hidden) document.addEventListener("visibilitychange", again, { once: true, signal: abort.signal });
        else again();
      }, ms);
    };
    Promise.resolve()
      .then(() => latest.current(abort.signal))
      .then(
        ({ answer, trace }) => {
          failures.current = 0;
          if (abort.signal.aborted) return;
          setNow({ key, value: answer, trace });
          if (period) later(period);
        },
        (error: Error) => {
          if (abort.signal.aborted) return;
          setNow((before) => ({ ...before, failed: { key, error } }));
          if (error instanceof Unreachable) later(Math.min(FIRST_WAIT * 2 ** failures.current++, LONGEST_WAIT));
          else if (period) later(period);
        },
      );
    return () => {
      abort.abort();
      clearTimeout(timer);
    };
  }, [key, attempt, period]);
  const retry = useCallback(() => setAttempt((count) => count + 1), []);
  if (key === undefined) return { waiting: false, retry };
  // That the server is away holds for the next question too, until it answers.
  const error = now.failed?.key === key || now.failed?.error instanceof Unreachable ? now.failed.error : undefined;
  return { value: now.value, trace: now.trace, error, waiting: now.key !== key && !error, retry };
}

type Shown = Answer & { seeds: Seed[] };

export interface Hits extends Asked<Shown> {
  /** Whether there may be hits beyond those shown. */
  more: boolean;
  /** Whether more of them are under way. */
  loading: boolean;
  next: () => void;
}

/** Pages beyond the first one, `of`, and how many of them are wanted. */
interface Pages {
  of?: Shown;
  wanted: number;
  answers: Answer[];
  trace?: Trace;
}

/** The hits for a question, page after page, all of one snapshot, with the seeds that they are of. */
export function useHits(question: Record<string, unknown> | undefined, seeds: Seed[]): Hits {
  const key = question && JSON.stringify(question);
  const first = useAsked<Shown>(key, async (signal) => {
    const { answer, trace } = await ask<Answer>("v1/recommend", signal, pageOf(question ?? {}, 0));
    return { answer: { ...answer, seeds }, trace };
  });
  const [pages, setPages] = useState<Pages>({ wanted: 0, answers: [] });
  const mine: Pages = pages.of === first.value ? pages : { of: first.value, wanted: 0, answers: [] };
  const { wanted, answers } = mine;
  const all = first.value ? [first.value, ...answers] : [];
  const hits = question?.diversity ? (all.at(-1)?.hits ?? []) : all.flatMap((answer) => answer.hits);
  const loading = first.value !== undefined && !first.waiting && wanted > answers.length;
  const rest = useAsked<true>(
    loading ? JSON.stringify([key, first.value?.snapshot, hits.length]) : undefined,
    async (signal) => {
      const body = { ...pageOf(question ?? {}, hits.length), snapshot: first.value?.snapshot };
      try {
        const { answer, trace } = await ask<Answer>("v1/recommend", signal, body);
        setPages({ ...mine, answers: [...answers, answer], trace });
        return { answer: true, trace };
      } catch (error) {
        if (error instanceof Refused && error.status === 409) first.retry(); // that snapshot is gone: begin anew
        throw error;
      }
    },
  );
  const failed = [...new Set(all.flatMap((answer) => answer.failed_shards))].sort((a, b) => a - b);
  const known = question?.diversity ? answers.length * PAGE : hits.length - (all.at(-1)?.hits.length ?? 0);
  return {
    value: first.value && { ...first.value, hits, failed_shards: failed },
    trace: mine.trace ?? first.trace,
    error: first.error ?? rest.error,
    waiting: first.waiting,
    retry: loading ? rest.retry : first.retry,
    more: !first.waiting && !failed.length && hits.length >= known + PAGE && hits.length < endOf(question ?? {}),
    loading,
    next: () => !loading && setPages({ ...mine, wanted: answers.length + 1 }),
  };
}

const TOGETHER = 6;
const LONGEST_SEARCH = 200;

/** The items met so far, by id, among them those of `ids` as soon as they are found; and a way to make others known. */
export function useItems(ids: string[], snapshot?: string): [ReadonlyMap<string, Item>, (items: Item[]) => void] {
  const [known] = useState(() => new Map<string, Item>());
  const [none] = useState(() => new Set<string>()); // that no search finds, in this snapshot
  const remember = useCallback(
    (items: Item[]) => {
      for (const item of items) known.set(String(item.id), item);
    },
    [known],
  );
  const missing = ids
    .filter((id) => !known.has(id) && !none.has(`${snapshot} ${id}`) && id.length <= LONGEST_SEARCH)
    .slice(0, TOGETHER);
  useAsked(missing.length ? JSON.stringify([snapshot, missing]) : undefined, async (signal) => {
    const found = await Promise.all(
      missing.map(async (id) => {
        const path = `v1/items?limit=1&q=${encodeURIComponent(id)}`; // an id finds its item first, whatever letters it has
        return (await ask<{ items: Item[] }>(path, signal)).answer.items;
      }),
    );
    missing.forEach((id, place) => {
      const item = found[place]?.find((each) => String(each.id) === id);
      if (item) known.set(id, item);
      else none.add(`${snapshot} ${id}`);
    });
    return { answer: true };
  });
  return [known, remember];
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

/** Puts the focus where it goes when what had it is taken from the page. */
export function useKeptFocus(fallback: () => HTMLElement | null): void {
  const last = useRef<Element>(undefined);
  useEffect(() => {
    const keep = () => {
      last.current = document.activeElement ?? undefined;
    };
    addEventListener("focusin", keep);
    return () => removeEventListener("focusin", keep);
  }, []);
  useEffect(() => {
    if (document.activeElement !== document.body || !last.current || last.current.isConnected) return;
    fallback()?.focus({ preventScroll: true });
  });
}
