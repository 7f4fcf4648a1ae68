import type { Hit } from "./api";
import { formatScore } from "./format";
import { segmentsOf, sum } from "./question";
import type { Seed } from "./state";

interface Props {
  hit: Hit;
  seeds: Seed[];
  /** The titles of the seeds. */
  names: string[];
  scale: number;
}

/** A hit's score as a bar; with many seeds, what each of them adds, in its color, and takes away, hatched. */
export function Bar({ hit, seeds, names, scale }: Props) {
  const { added, taken } = hit.explain ? segmentsOf(hit.explain, seeds) : { added: [], taken: [] };
  const score = hit.score ?? 0;
  const percent = (value: number) => `${(100 * value) / scale}%`;
  const told = [
    ...added.map(({ seed, value }) => `${names[seed]} +${formatScore(value)}`),
    ...taken.map(({ seed, value }) => `${names[seed]} −${formatScore(value)}`),
  ].join(", ");
  return (
    <div className="score">
      <div className="bar" role="img" aria-label={`Score ${formatScore(score)}${told && `: ${told}`}`} title={told}>
        {added.length + taken.length ? (
          added.map(({ seed, value }) => (
            <span key={seed} className="part" data-color={seed % 8} style={{ width: percent(value) }} />
          ))
        ) : (
          <span className={score < 0 ? "taken" : "part"} data-color={0} style={{ width: percent(Math.abs(score)) }} />
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
