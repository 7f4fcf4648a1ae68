import { useEffect, useState } from "react";
import { getKey, type Health, type Snapshots, type Trace } from "./api";
import { Copy } from "./Copy";
import { count, formatAge, formatBytes, formatMs } from "./format";

interface Props {
  open: boolean;
  toggle: (open: boolean) => void;
  trace?: Trace;
  health?: Health;
  snapshots?: Snapshots;
  listError?: Error;
  away: boolean;
}

const CACHE: Record<string, string> = {
  memory: "memory: kept by this replica",
  redis: "redis: kept by another replica",
  miss: "miss: computed now, and kept",
  bypass: "bypass: computed now, not kept",
};

/** For engineers: how the last answer came about, which snapshot it is of, and how the shards are. */
export function Hood({ open, toggle, trace, health, snapshots, listError, away }: Props) {
  return (
    <details className="hood" open={open} onToggle={(event) => toggle(event.currentTarget.open)}>
      <summary>
        <span className={`lamp ${away ? "away" : (health?.status ?? "")}`} aria-hidden="true" />
        Under the hood
        <small>
          {trace && `${formatMs(trace.waited)} · ${trace.cache}`}
          {health?.snapshot && ` · ${count(health.pairs ?? 0, "pair")} of ${count(health.items ?? 0, "item")}`}
        </small>
      </summary>
      {open && (
        // biome-ignore lint/a11y/noNoninteractiveTabindex: it scrolls, by keys too
        <section className="panels" aria-label="Under the hood" tabIndex={0}>
          <section aria-label="The last answer">
            <h2>The last answer</h2>
            {trace ? <LastAnswer trace={trace} health={health} /> : <p className="empty">Nothing was asked yet.</p>}
          </section>
          <section aria-label="Snapshots">
            <h2>Snapshots</h2>
            {snapshots && <SnapshotList {...snapshots} />}
            {listError && <p className="hint">They cannot be listed: {listError.message || "no answer"}.</p>}
          </section>
          <section aria-label="Shards">
            <h2>Shards</h2>
            {health && <Shards health={health} trace={trace} away={away} />}
          </section>
        </section>
      )}
    </details>
  );
}

function LastAnswer({ trace, health }: { trace: Trace; health?: Health }) {
  const { stages, waited } = trace;
  const total = stages.total ?? 0;
  const inner = Object.entries(stages).filter(([stage]) => stage !== "total");
  const rest = Math.max(total - inner.reduce((sum, [, ms]) => sum + ms, 0), 0);
  const parts = [
    ...inner,
    ["cache and queue", rest] as const,
    ["network, proxy, HTTP", Math.max(waited - total, 0)] as const,
  ];
  const shards = trace.shards.length ? trace.shards.join(", ") : "none: the answer was kept";
  return (
    <>
      <div className="stages" aria-hidden="true">
        {parts.map(([stage, ms], place) => (
          <span key={stage} data-color={place} style={{ flexGrow: ms }} />
        ))}
      </div>
      <dl>
        {parts.map(([stage, ms], place) => (
          <div key={stage}>
            <dt>
              <span className="swatch" data-color={place} aria-hidden="true" /> {stage}
            </dt>
            <dd>{formatMs(ms)}</dd>
          </div>
        ))}
        <div className="sum">
          <dt>until the page had it</dt>
          <dd>{formatMs(waited)}</dd>
        </div>
        <div>
          <dt>cache</dt>
          <dd>{CACHE[trace.cache] ?? trace.cache}</dd>
        </div>
        <div>
          <dt>shards asked</dt>
          <dd>
            {shards}
            {trace.shards.length > 0 && health && ` (there are ${health.shards.length})`}
          </dd>
        </div>
      </dl>
      <Curl trace={trace} />
    </>
  );
}

/** The same request for a shell. */
function Curl({ trace }: { trace: Trace }) {
  const body = JSON.stringify(trace.body).replaceAll("'", "'\\''");
  const key = getKey() && ' -H "Authorization: Bearer $SIMSHARD_API_KEY"';
  const line = `curl '${new URL(trace.path, document.baseURI)}'${key} -H 'content-type: application/json' -d '${body}'`;
  return (
    <div className="curl">
      <input type="text" aria-label="The same request for a shell" readOnly value={line} />
      <Copy label="Copy" text={() => line} />
    </div>
  );
}

function SnapshotList({ serving, active, open, snapshots }: Snapshots) {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 1000);
    return () => clearInterval(timer);
  }, []);
  return (
    <table>
      <thead>
        <tr>
          <th>name</th>
          <th>age</th>
          <th>size</th>
          <th>state</th>
        </tr>
      </thead>
      <tbody>
        {[...snapshots].reverse().map(({ name, created, items, pairs, bytes, encoding }) => (
          <tr
            key={name}
            className={name === serving ? "serving" : ""}
            title={`${count(pairs, "pair")} of ${count(items, "item")}, ${encoding}`}
          >
            <td>
              <code>{name}</code>
            </td>
            <td>{formatAge(created, now)}</td>
            <td>{formatBytes(bytes)}</td>
            <td>
              {name === serving
                ? "serving"
                : name === active
                  ? "active, opening"
                  : open.includes(name)
                    ? "open"
                    : "at rest"}
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function Shards({ health, trace, away }: { health: Health; trace?: Trace; away: boolean }) {
  const stateOf = (state: string) => (away ? "unknown" : state);
  const asked = (shard: number) => (trace?.shards.includes(shard) ? " asked" : "");
  return (
    <>
      <div className="shards" aria-hidden="true">
        {health.shards.map(({ shard, row_start, row_stop, state }) => (
          <span
            key={shard}
            className={`${stateOf(state)}${asked(shard)}`}
            style={{ flexGrow: row_stop - row_start }}
            title={`shard ${shard}: rows ${row_start} to ${row_stop - 1}`}
          >
            {shard}
          </span>
        ))}
      </div>
      <table>
        <thead>
          <tr>
            <th>shard</th>
            <th>rows</th>
            <th>size</th>
            <th>node</th>
            <th>read by</th>
            <th>state</th>
          </tr>
        </thead>
        <tbody>
          {health.shards.map(({ shard, row_start, row_stop, bytes, host, transport, state }) => (
            <tr key={shard}>
              <td>{shard}</td>
              <td>
                {row_start.toLocaleString("en")} – {(row_stop - 1).toLocaleString("en")}
              </td>
              <td>{formatBytes(bytes)}</td>
              <td>{host ?? "–"}</td>
              <td>{transport === "local" ? "memory map" : "actor call"}</td>
              <td className={stateOf(state)}>{stateOf(state)}</td>
            </tr>
          ))}
        </tbody>
      </table>
      <p className="hint">
        {health.problem ??
          `simshard ${health.version} · cache ${formatBytes(health.cache.memory_bytes)} in memory, redis ${health.cache.redis}`}
      </p>
    </>
  );
}
