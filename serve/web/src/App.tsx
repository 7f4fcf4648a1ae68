import { useEffect, useRef, useState } from "react";
import { type Attributes, ask, type Health, type Item, isLocked, type Snapshots, Unreachable } from "./api";
import { Card } from "./Card";
import { Filters } from "./Filters";
import { facetsOf } from "./facets";
import { count, titleOf } from "./format";
import { Hood } from "./Hood";
import { useAddress, useAsked, useHits, useItems } from "./hooks";
import { Icon } from "./icons";
import { Notice } from "./Notice";
import { questionOf, scaleOf } from "./question";
import { Search } from "./Search";
import { Seeds } from "./Seeds";
import { SimilarityMap } from "./SimilarityMap";
import { Start } from "./Start";
import { chosen, countFilters, dropped, emptyState, formatState, hid, noFilters, walked, weighted } from "./state";

export function App() {
  const [state, change] = useAddress();
  const [met, setMet] = useState<Item[]>([]); // by search, map or start
  const heading = useRef<HTMLHeadingElement>(null);
  const question = questionOf(state);
  const hits = useHits(question);
  const [round, setRound] = useState(0); // another one asks for what is not asked for periodically
  const health = useAsked<Health>("health", (signal) => ask("healthz", signal), state.hood ? 2000 : 10_000);
  const snapshot = health.value?.snapshot ?? hits.value?.snapshot;
  const about = useAsked<Attributes>(`${snapshot} ${round}`, (signal) => ask("v1/attributes?values=500", signal));
  const listed = useAsked<Snapshots>(
    state.hood ? `${snapshot} ${round}` : undefined,
    (signal) => ask("v1/snapshots", signal),
    state.hood ? 5000 : undefined,
  );
  const shown = hits.value?.hits ?? [];
  const known = useItems([...state.seeds.map(({ id }) => id), ...state.walk], [...met, ...shown]);
  const nameOf = (id: string) => {
    const item = known.get(id);
    return item ? titleOf(item) : id;
  };
  const retry = () => {
    setRound((before) => before + 1);
    health.retry();
    hits.retry();
  };
  const error = hits.error ?? [about.error, health.error].find((each) => each instanceof Unreachable || isLocked(each));
  const scale = scaleOf(shown);
  const facets = about.value ? facetsOf(about.value) : [];
  const filtered = countFilters(state.filters);

  useEffect(() => {
    const titles = state.seeds.map(({ id }) => nameOf(id)).slice(0, 3);
    document.title = titles.length ? `${titles.join(", ")} · simshard` : "simshard";
  });

  /** Act on a card, which then goes: the focus, if it was there, moves to the heading of the hits. */
  const act = (next: typeof change extends (change: infer C) => void ? C : never) => {
    change(next);
    if (document.activeElement?.closest(".card")) heading.current?.focus({ preventScroll: true });
  };
  const choose = (id: string, liked: boolean) => act((now) => chosen(now, id, liked));
  const begin = (id: string) => {
    act((now) => ({ ...chosen(emptyState(), id, true), filters: now.filters, hood: now.hood, view: now.view }));
    scrollTo({ top: 0 });
  };
  const filters = (
    <Filters
      facets={facets}
      filters={state.filters}
      change={(next, replace) => change((now) => ({ ...now, filters: next }), replace)}
    />
  );

  return (
    <>
      <a className="skip" href="#hits">
        Skip to the hits
      </a>
      <header>
        <a
          className="brand"
          href="./"
          aria-label="simshard: start"
          onClick={(event) => {
            event.preventDefault();
            change(emptyState);
          }}
        >
          <img src="./favicon.svg" alt="" width="30" height="30" />
          <span>simshard</span>
        </a>
        <Search
          about={about.value}
          pick={(item, liked) => {
            setMet((before) => [...before.slice(-500), item]);
            change((now) => chosen(now, String(item.id), liked));
          }}
        />
        <Share />
      </header>
      <main className={state.seeds.length ? "" : "start"}>
        {state.seeds.length > 0 && (
          <Seeds
            seeds={state.seeds}
            known={known}
            like={(id, liked) => change((now) => chosen(now, id, liked))}
            weigh={(id, weight) => change((now) => weighted(now, id, weight), true)}
            drop={(id) => change((now) => dropped(now, id))}
          />
        )}
        <Notice error={error} failedShards={hits.value?.failed_shards ?? []} retry={retry} />
        {!state.seeds.length && (
          <Start
            about={about.value}
            snapshot={snapshot}
            pick={(item) => {
              setMet((before) => [...before.slice(-500), item]);
              change((now) => chosen(now, String(item.id), true));
            }}
          />
        )}
        {state.seeds.length > 0 && (
          <div className="columns">
            <aside aria-label="Filters">
              <details className="narrow">
                <summary>Filters{filtered > 0 && ` (${filtered})`}</summary>
                {filters}
              </details>
              <div className="wide">{filters}</div>
            </aside>
            <div className="results">
              <div className="toolbar">
                <h1 id="hits" ref={heading} tabIndex={-1}>
                  What goes with {state.seeds.length > 1 ? "these" : nameOf(state.seeds[0]?.id ?? "")}
                </h1>
                {/* biome-ignore lint/a11y/useSemanticElements: two buttons are no form */}
                <div className="tabs" role="group" aria-label="View">
                  {(["hits", "map"] as const).map((view) => (
                    <button
                      key={view}
                      type="button"
                      aria-pressed={state.view === view}
                      onClick={() => change((now) => ({ ...now, view, walk: [] }))}
                    >
                      {view === "hits" ? "Hits" : "Map"}
                    </button>
                  ))}
                </div>
                {state.view === "hits" && (
                  <label className="diversity">
                    Diversity
                    <input
                      type="range"
                      min={0}
                      max={1}
                      step={0.1}
                      value={state.diversity}
                      onChange={(event) => {
                        const diversity = event.target.valueAsNumber;
                        change((now) => ({ ...now, diversity }), true);
                      }}
                    />
                    <output>{state.diversity.toFixed(1)}</output>
                  </label>
                )}
                {state.hidden.length > 0 && (
                  <button type="button" className="plain" onClick={() => change((now) => ({ ...now, hidden: [] }))}>
                    Show {state.hidden.length} hidden again
                  </button>
                )}
              </div>
              {state.view === "map" ? (
                <SimilarityMap
                  state={state}
                  about={about.value}
                  known={known}
                  remember={(items) => setMet((before) => [...before.slice(-500), ...items])}
                  walk={(id) => change((now) => walked(now, id))}
                  home={() => change((now) => ({ ...now, walk: [] }))}
                  choose={choose}
                />
              ) : (
                <section aria-label="Hits" aria-busy={hits.waiting}>
                  <p className="said" role="status">
                    {!question || hits.error
                      ? ""
                      : hits.waiting || !hits.value
                        ? "Looking…"
                        : `${count(shown.length, "hit")} for ${count(state.seeds.length, "title")}`}
                  </p>
                  {!question && (
                    <p className="empty">
                      Dislikes alone say only what you do not want: <b>like at least one title</b> to see hits.
                    </p>
                  )}
                  {question && !hits.value && !error && (
                    <ul className="cards waiting" aria-hidden="true">
                      {Array.from({ length: 9 }, (_, place) => (
                        // biome-ignore lint/suspicious/noArrayIndexKey: all are alike
                        <li key={place} className="card" />
                      ))}
                    </ul>
                  )}
                  {question && hits.value && !shown.length && !hits.waiting && (
                    <div className="empty">
                      <p>{filtered ? "Nothing passes these filters." : "No other title has a pair with these."}</p>
                      {filtered > 0 && (
                        <button type="button" onClick={() => change((now) => ({ ...now, filters: noFilters() }))}>
                          Clear the filters
                        </button>
                      )}
                    </div>
                  )}
                  {state.seeds.length > 1 && shown.length > 0 && (
                    <ul className="legend" aria-label="Colors of the bars">
                      {state.seeds.slice(0, 8).map(({ id, liked }, place) => (
                        <li key={id} data-color={place % 8} className={liked ? "" : "against"}>
                          <span className="swatch" aria-hidden="true" /> {nameOf(id)}
                        </li>
                      ))}
                      {state.seeds.length > 8 && (
                        <li>and {state.seeds.length - 8} more, colors again from the first</li>
                      )}
                    </ul>
                  )}
                  <ul className={`cards${hits.error ? " old" : ""}`} aria-label="Hits">
                    {shown.map((hit) => (
                      <Card
                        key={String(hit.id)}
                        hit={hit}
                        about={about.value}
                        seeds={state.seeds}
                        scale={scale}
                        nameOf={nameOf}
                        hrefOf={(id) => `?${formatState(chosen(emptyState(), id, true))}`}
                        begin={begin}
                        choose={choose}
                        hide={(id) => act((now) => hid(now, id))}
                      />
                    ))}
                  </ul>
                  {hits.more && !hits.error && (
                    <button type="button" className="more" disabled={hits.loading} onClick={hits.next}>
                      {hits.loading ? "Loading…" : "More"}
                    </button>
                  )}
                </section>
              )}
            </div>
          </div>
        )}
      </main>
      <footer>
        <Hood
          open={state.hood}
          toggle={(hood) => hood !== state.hood && change((now) => ({ ...now, hood }), true)}
          trace={hits.trace}
          health={health.value}
          snapshots={listed.value}
          away={error instanceof Unreachable}
        />
      </footer>
    </>
  );
}

function Share() {
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    if (!copied) return;
    const timer = setTimeout(() => setCopied(false), 1500);
    return () => clearTimeout(timer);
  }, [copied]);
  return (
    <div className="links">
      {navigator.clipboard && (
        <button
          type="button"
          aria-label={copied ? "Copied" : "Copy link"}
          title="Copy a link to what is shown"
          onClick={() => navigator.clipboard.writeText(location.href).then(() => setCopied(true))}
        >
          <Icon name="link" /> <span>{copied ? "Copied" : "Copy link"}</span>
        </button>
      )}
      <a href="docs">API</a>
    </div>
  );
}
