import type { Item } from "./api";
import { formatNumber, titleOf } from "./format";
import { Icon } from "./icons";
import type { Seed } from "./state";

interface Props {
  seeds: Seed[];
  known: ReadonlyMap<string, Item>;
  /** Ids that the catalogue does not have. */
  missing: string[];
  like: (id: string, liked: boolean) => void;
  weigh: (id: string, weight: number) => void;
  drop: (id: string) => void;
}

/** The chosen titles, each with its color, liked or disliked, and its weight. */
export function Seeds({ seeds, known, missing, like, weigh, drop }: Props) {
  return (
    <ul className="seeds" aria-label="Chosen titles">
      {seeds.map(({ id, liked, weight }, place) => {
        const item = known.get(id);
        const title = item ? titleOf(item) : id;
        return (
          <li key={id} className={`seed ${liked ? "liked" : "disliked"}`} data-color={place % 8}>
            <span className="swatch" aria-hidden="true" />
            <button
              type="button"
              className="mark"
              aria-pressed={liked}
              aria-label={`Like ${title}`}
              title={liked ? "Liked: click to dislike" : "Disliked: click to like"}
              onClick={() => like(id, !liked)}
            >
              <Icon name={liked ? "like" : "dislike"} />
            </button>
            <span className="name" title={title}>
              {title}
              {missing.includes(id) && <em> not in this catalogue</em>}
            </span>
            {(seeds.length > 1 || weight !== 1) && (
              <label className="weight" title="Weight">
                <input
                  type="range"
                  aria-label={`Weight of ${title}`}
                  min={0.25}
                  max={4}
                  step={0.25}
                  value={weight}
                  onChange={(event) => weigh(id, event.target.valueAsNumber)}
                />
                <output>×{formatNumber(weight)}</output>
              </label>
            )}
            <button type="button" className="remove" aria-label={`Remove ${title}`} onClick={() => drop(id)}>
              <Icon name="remove" />
            </button>
          </li>
        );
      })}
    </ul>
  );
}
