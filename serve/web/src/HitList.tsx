import { useEffect, useMemo, useRef } from "react";
import type { Attributes } from "./api";
import { type Acts, Card } from "./Card";
import { count } from "./format";
import type { Hits } from "./hooks";
import { PAGE, scaleOf } from "./question";
import type { Seed } from "./state";

interface Props {
  hits: Hits;
  waiting: boolean;
  /** Whether anything is liked. */
  liking: boolean;
  about?: Attributes;
  /** The titles of the seeds of these hits. */
  names: string[];
  acts: Acts;
  /** Takes the filters away, if there are any. */
  clear?: () => void;
}

const COLORS = 8;
const NONE: Seed[] = [];

/** The hits as cards, or why there are none. */
export function HitList({ hits, waiting, liking, about, names: given, acts, clear }: Props) {
  const { value, error } = hits;
  const shown = value?.hits ?? [];
  const seeds = value?.seeds ?? NONE; // those of the answer that is shown, while another is awaited
  const named = JSON.stringify(given);
  const names = useMemo<string[]>(() => JSON.parse(named), [named]);
  const scale = scaleOf(shown);
  const cards = useRef<HTMLUListElement>(null);
  const asked = useRef(0);

  // After "more" one reads on at the first of the new hits.
  useEffect(() => {
    if (!asked.current || shown.length <= asked.current) return;
    cards.current?.children[asked.current]?.querySelector("a")?.focus({ preventScroll: true });
    asked.current = 0;
  }, [shown.length]);

  const said = `${count(shown.length, "hit")} for ${count(seeds.length, "title")}`;
  return (
    <section aria-label="Hits" aria-busy={waiting}>
      <p className="said" role="status">
        {!liking || error ? "" : waiting || !value ? "Looking…" : said}
      </p>
      {!liking && (
        <p className="empty">
          Dislikes alone say only what you do not want: <b>like at least one title</b> to see hits.
        </p>
      )}
      {liking && !value && !error && (
        <ul className="cards waiting" aria-hidden="true">
          {Array.from({ length: 9 }, (_, place) => (
            // biome-ignore lint/suspicious/noArrayIndexKey: all are alike
            <li key={place} className="card" />
          ))}
        </ul>
      )}
      {value && !shown.length && !waiting && !error && (
        <div className="empty">
          <p>{clear ? "Nothing passes these filters." : "No other title has a pair with these."}</p>
          {clear && (
            <button type="button" onClick={clear}>
              Clear the filters
            </button>
          )}
        </div>
      )}
      {seeds.length > 1 && shown.length > 0 && (
        <ul className="legend" aria-label="Colors of the bars">
          {seeds.slice(0, COLORS).map(({ id, liked }, place) => (
            <li key={id} data-color={place} className={liked ? "" : "against"}>
              <span className="swatch" aria-hidden="true" /> {names[place]}
            </li>
          ))}
          {seeds.length > COLORS && <li>and {seeds.length - COLORS} more, colors again from the first</li>}
        </ul>
      )}
      <ul ref={cards} className={`cards${error ? " old" : ""}`} aria-label="Hits">
        {shown.map((hit) => (
          <Card key={String(hit.id)} hit={hit} about={about} seeds={seeds} names={names} scale={scale} acts={acts} />
        ))}
      </ul>
      {(hits.more || hits.loading) && !error && (
        <button
          type="button"
          className="more"
          aria-disabled={hits.loading || waiting}
          onClick={() => {
            if (hits.loading || waiting) return;
            asked.current = shown.length;
            hits.next();
          }}
        >
          {hits.loading ? "Loading…" : `${PAGE} more`}
        </button>
      )}
    </section>
  );
}
