import { memo, useId, useState } from "react";
import { type Facet, stepOf } from "./facets";
import { formatNumber, wordsOf } from "./format";
import { bounded, type Filters as Chosen, countFilters, noFilters, type Range, toggled } from "./state";

interface Props {
  facets: Facet[];
  filters: Chosen;
  change: (filters: Chosen, replace?: boolean) => void;
}

/** Filters made from the attributes that there are. */
export const Filters = memo(function Filters({ facets, filters, change }: Props) {
  const active = countFilters(filters);
  return (
    <div className="filters">
      <div className="head">
        <h2>Filters</h2>
        {active > 0 && (
          <button type="button" className="plain" onClick={() => change(noFilters())}>
            Clear {active}
          </button>
        )}
      </div>
      {facets.map((facet) => (
        <fieldset key={facet.name}>
          <legend>{wordsOf(facet.name)}</legend>
          {facet.kind === "range" ? (
            <Between
              facet={facet}
              range={filters.range.get(facet.name) ?? {}}
              set={(range) => change(bounded(filters, facet.name, range), true)}
            />
          ) : facet.kind === "choices" ? (
            <Choices facet={facet} filters={filters} change={change} />
          ) : (
            <Tags facet={facet} filters={filters} change={change} />
          )}
        </fieldset>
      ))}
    </div>
  );
});

interface Part {
  facet: Facet;
  filters: Chosen;
  change: (filters: Chosen) => void;
}

function Choices({ facet: { name, values }, filters, change }: Part) {
  return (
    <div className="choices">
      {values.map(({ value, count }) => (
        <label key={value}>
          <input
            type="checkbox"
            checked={filters.is.get(name)?.includes(value) ?? false}
            onChange={() => change(toggled(filters, "is", name, value))}
          />
          <span>{value}</span>
          <small>{count.toLocaleString("en")}</small>
        </label>
      ))}
    </div>
  );
}

const SHOWN = 10;

/** Of many values: the chosen ones, the most frequent ones, and a box that finds the others. */
function Tags({ facet: { name, list, more, values }, filters, change }: Part) {
  const [text, setText] = useState("");
  const id = useId();
  const wanted = list ? "has" : "is";
  const [yes, no] = [filters[wanted].get(name) ?? [], filters.not.get(name) ?? []];
  const matching = text.trim()
    ? values.filter(({ value }) => value.toLowerCase().includes(text.trim().toLowerCase()))
    : values;
  const rest = matching.map(({ value }) => value).filter((value) => !yes.includes(value) && !no.includes(value));
  // off -> wanted -> unwanted -> off
  const turn = (value: string) =>
    yes.includes(value)
      ? change(toggled(toggled(filters, wanted, name, value), "not", name, value))
      : change(toggled(filters, no.includes(value) ? "not" : wanted, name, value));
  const shown = [...yes, ...no, ...rest.slice(0, SHOWN)];
  return (
    <>
      {(more || values.length > SHOWN) && (
        <input
          type="text"
          className="find"
          aria-label={`Find in ${wordsOf(name)}`}
          aria-controls={id}
          placeholder={`Find in ${wordsOf(name)}…`}
          value={text}
          onChange={(event) => setText(event.target.value)}
          onKeyDown={(event) => {
            if (event.nativeEvent.isComposing) return;
            if (event.key === "Escape") setText("");
            else if (event.key === "Enter" && text.trim()) {
              const value = rest[0] ?? (more && !yes.includes(text.trim()) ? text.trim() : undefined);
              if (value !== undefined) turn(value);
              setText("");
            }
          }}
        />
      )}
      {more && text.trim() !== "" && !rest.length && <p className="hint">A rarer one: type it whole, then Enter.</p>}
      <ul className="tags choose" id={id}>
        {shown.map((value) => {
          const state = yes.includes(value) ? "yes" : no.includes(value) ? "no" : "off";
          const told = { yes: "wanted", no: "not wanted", off: "any" }[state];
          return (
            <li key={value}>
              <button
                type="button"
                className={state}
                aria-label={`${value}: ${told}`}
                title={`${told}; click to change`}
                onClick={() => turn(value)}
              >
                {value}
              </button>
            </li>
          );
        })}
      </ul>
    </>
  );
}

/** Two thumbs on one track. */
function Between({ facet, range, set }: { facet: Facet; range: Range; set: (range: Range) => void }) {
  const { name, min: least, max: most } = facet;
  const step = stepOf(facet);
  const [low, high] = [range.min ?? least, range.max ?? most];
  const share = (value: number) => `${(100 * (Math.min(Math.max(value, least), most) - least)) / (most - least)}%`;
  const thumb = (end: "min" | "max", value: number) => (
    <input
      type="range"
      className={end === "min" && low > (least + most) / 2 ? "above" : ""}
      aria-label={`${end === "min" ? "Least" : "Most"} ${wordsOf(name)}`}
      aria-valuetext={formatPlain(name, value)}
      min={least}
      max={most}
      step={step}
      value={value}
      onChange={(event) => {
        const given = event.target.valueAsNumber;
        if (end === "min") set({ ...range, min: given <= least ? undefined : Math.min(given, high) });
        else set({ ...range, max: given + step > most ? undefined : Math.max(given, low) });
      }}
    />
  );
  return (
    <div className="between" style={{ "--low": share(low), "--high": share(high) } as React.CSSProperties}>
      <div className="track">
        {thumb("min", low)}
        {thumb("max", high)}
      </div>
      <output>
        {formatPlain(name, low)} – {formatPlain(name, high)}
      </output>
    </div>
  );
}

/** A year has no thousands' comma. */
const formatPlain = (name: string, value: number): string => (/year/i.test(name) ? String(value) : formatNumber(value));
