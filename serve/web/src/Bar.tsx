import type { Hit } from "./api";
import { formatScore } from "./format";
import { segmentsOf, sum } from "./question";
import type { Seed } from "./state";

interface Props {
  hit: Hit;
  seeds: Seed[];
  scale: number;
  nameOf: (id: string) => string;
}

/** A hit's score as a bar; with many seeds, what each of them adds, in its color, and takes away, hatched. */
export function Bar({ hit, seeds, scale, nameOf }: Props) {
  const { added, taken } = hit.explain ? segmentsOf(hit.explain, seeds) : { added: [], taken: [] };
  const score = hit.score ?? 0;
  const percent = (value: number) => `${(100 * Math.max(value, 0)) / scale}%`;
  const name = (seed: number) => nameOf(seeds[seed]?.id ?? "");
  const told = [
    ...added.map(({ seed, value }) => `${name(seed)} +${formatScore(value)}`),
    ...taken.map(({ seed, value }) => `${name(seed)} −${formatScore(value)}`),
  ].join(", ");
  return (
    <div className="score">
      <div className="bar" role="img" aria-label={`Score ${formatScore(score)}${told && `: ${told}`}`} title={told}>
        {added.length ? (
          added.map(({ seed, value }) => (
            <span key={seed} className="part" data-color={seed % 8} style={{ width: percent(value) }} />
          ))
        ) : (
          <span className="part" data-color={0} style={{ width: percent(score) }} />
        )}
        {taken.map(({ seed, value }, place) => (
          <span
            key={seed}
            className="taken"
            data-color={seed % 8}
            style={{ width: percent(value), left: percent(sum(added) - sum(taken.slice(0, place + 1))) }}
          />
        ))}
      </div>
      <b>{formatScore(score)}</b>
    </div>
  );
}
