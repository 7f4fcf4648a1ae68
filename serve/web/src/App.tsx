import { useCallback, useEffect, useMemo, useRef } from "react";
import { type Attributes, ask, getKey, type Health, isLocked, type Snapshots, Unreachable } from "./api";
import type { Acts } from "./Card";
import { Copy } from "./Copy";
import { Filters } from "./Filters";
import { facetsOf } from "./facets";
import { titleOf } from "./format";
import { HitList } from "./HitList";
import { Hood } from "./Hood";
import { useAddress, useAsked, useHits, useItems, useKeptFocus } from "./hooks";
import { Notice } from "./Notice";
import { questionOf } from "./question";
import { Search } from "./Search";
import { Seeds } from "./Seeds";
import { SimilarityMap } from "./SimilarityMap";
import { Start } from "./Start";
import { chosen, countFilters, dropped, emptyState, formatState, hid, type State, walked, weighted } from "./state";

export function App() {
  const [state, settled, change] = useAddress();
  const heading = useRef<HTMLHeadingElement>(null);
  const question = questionOf(settled);
  const hits = useHits(question, settled.seeds);
  const health = useAsked<Health>("health", (signal) => ask("healthz", signal), state.hood ? 2000 : 10_000);
  const about = useAsked<Attributes>("about", (signal) => ask("v1/attributes?values=500", signal), 30_000);
  const listed = useAsked<Snapshots>(state.hood ? "listed" : undefined, (signal) => ask("v1/snapshots", signal), 5000);
  const snapshot = health.value?.snapshot ?? about.value?.snapshot;
  const ids = [...state.seeds.map(({ id }) => id), ...state.walk];
  const [known, remember] = useItems(ids, snapshot);
  remember(hits.value?.hits ?? []);
  const nameOf = (id: string) => {
    const item = known.get(id);
    return item ? titleOf(item) : id;
  };
  const aboutError = about.error instanceof Unreachable || isLocked(about.error) ? about.error : undefined;
  const filtered = countFilters(state.filters);
  const facets = useMemo(() => (about.value ? facetsOf(about.value) : []), [about.value]);
  useKeptFocus(() => heading.current ?? document.querySelector("[role=combobox]"));

  useEffect(() => {
    const titles = state.seeds.map(({ id }) => nameOf(id)).slice(0, 3);
    document.title = titles.length ? `${titles.join(", ")} · simshard` : "simshard";
  });

  const acts = useMemo(
    (): Acts => ({
      choose: (id, liked) => change((now) => chosen(now, id, liked)),
      hide: (id) => change((now) => hid(now, id)),
      begin: (id) => {
        change((now) => ({ ...chosen(emptyState(), id, true), filters: now.filters, hood: now.hood }));
        scrollTo({ top: 0 });
      },
    }),
    [change],
  );
  const filter = useCallback(
    (filters: State["filters"], sliding?: boolean) => change((now) => ({ ...now, filters }), sliding),
    [change],
  );
  const filters = <Filters facets={facets} filters={state.filters} change={filter} />;

  return (
    <>
      <a className="skip" href="#main">
        Skip to the content
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
            remember([item]);
            acts.choose(String(item.id), liked);
          }}
        />
        <Links state={state} />
      </header>
      <main id="main" tabIndex={-1} className={state.seeds.length ? "" : "start"}>
        {state.seeds.length > 0 && (
          <Seeds
            seeds={state.seeds}
            known={known}
            missing={hits.value?.missing_ids.map(String) ?? []}
            like={acts.choose}
            weigh={(id, weight) => change((now) => weighted(now, id, weight), true)}
            drop={(id) => change((now) => dropped(now, id))}
          />
        )}
        <Notice
          error={(state.view === "hits" ? hits.error : undefined) ?? aboutError}
          failedShards={(state.view === "hits" ? hits.value?.failed_shards : undefined) ?? []}
          retry={() => {
            hits.retry();
            about.retry();
            health.retry();
          }}
        />
        {!state.seeds.length && (
          <Start
            about={about.value}
            snapshot={snapshot ?? undefined}
            pick={(item) => {
              remember([item]);
              acts.choose(String(item.id), true);
            }}
          />
        )}
        {state.seeds.length > 0 && (
          <div className={facets.length ? "columns" : ""}>
            {facets.length > 0 && (
              <aside aria-label="Filters">
                <details className="narrow">
                  <summary>Filters{filtered > 0 && ` (${filtered})`}</summary>
                  {filters}
                </details>
                <div className="wide">{filters}</div>
              </aside>
            )}
            <div className="results">
              <div className="toolbar">
                <h1 ref={heading} tabIndex={-1}>
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
                {hits.value && health.value?.snapshot && health.value.snapshot !== hits.value.snapshot && (
                  <button type="button" className="plain" onClick={hits.retry}>
                    A newer snapshot is served: ask it
                  </button>
                )}
              </div>
              {state.view === "map" ? (
                <SimilarityMap
                  state={settled}
                  about={about.value}
                  known={known}
                  remember={remember}
                  walk={(id) => change((now) => walked(now, id))}
                  home={() => change((now) => ({ ...now, walk: [] }))}
                  choose={acts.choose}
                />
              ) : (
                <HitList
                  hits={hits}
                  waiting={hits.waiting || state !== settled}
                  liking={question !== undefined}
                  about={about.value}
                  names={hits.value?.seeds.map(({ id }) => nameOf(id)) ?? []}
                  acts={acts}
                  clear={filtered ? () => filter(emptyState().filters) : undefined}
                />
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
          listError={listed.error}
          away={health.error instanceof Unreachable}
        />
      </footer>
    </>
  );
}

/** A link to what is shown, for the clipboard, and the API's documentation where a browser may read it. */
function Links({ state }: { state: State }) {
  const link = () => {
    const query = formatState(state);
    return `${location.origin}${location.pathname}${query && `?${query}`}`;
  };
  return (
    <div className="links">
      <Copy label="Copy link" title="Copy a link to what is shown" text={link} />
      {!getKey() && <a href="docs">API</a>}
    </div>
  );
}
