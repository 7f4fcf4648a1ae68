import { memo } from "react";
import type { Attributes, Hit } from "./api";
import { Bar } from "./Bar";
import { factsOf, imageOf, tagsOf, titleOf } from "./format";
import { Icon } from "./icons";
import { chosen, emptyState, formatState, type Seed } from "./state";
import { Tile } from "./Tile";

const TAGS = 5;

interface Props {
  hit: Hit;
  about?: Attributes;
  seeds: Seed[];
  /** The titles of the seeds. */
  names: string[];
  scale: number;
  acts: Acts;
}

/** What a card does; always the same functions, so that it need not be drawn again. */
export interface Acts {
  begin: (id: string) => void;
  choose: (id: string, liked: boolean) => void;
  hide: (id: string) => void;
}

/** One hit, and what can be said to it. */
export const Card = memo(function Card({ hit, about, seeds, names, scale, acts }: Props) {
  const id = String(hit.id);
  const title = titleOf(hit);
  const tags = tagsOf(hit);
  const actions = [
    ["like", `Like ${title}`, () => acts.choose(id, true)],
    ["dislike", `Dislike ${title}`, () => acts.choose(id, false)],
    ["hide", `Hide ${title}`, () => acts.hide(id)],
  ] as const;
  return (
    <li className="card">
      <Tile title={title} image={imageOf(hit, about?.image)} />
      <div className="words">
        <h3>
          <a
            href={`?${formatState(chosen(emptyState(), id, true))}`}
            title="Begin anew with this title"
            onClick={(event) => {
              if (event.ctrlKey || event.metaKey || event.shiftKey) return;
              event.preventDefault();
              acts.begin(id);
            }}
          >
            {title}
          </a>
        </h3>
        <p className="facts">{factsOf(hit, about).join(" · ")}</p>
      </div>
      <Bar hit={hit} seeds={seeds} names={names} scale={scale} />
      {tags.length > 0 && (
        <ul className="tags" aria-label="Tags">
          {tags.slice(0, TAGS).map((tag) => (
            <li key={tag}>{tag}</li>
          ))}
          {tags.length > TAGS && <li title={tags.slice(TAGS).join(", ")}>+{tags.length - TAGS}</li>}
        </ul>
      )}
      <div className="actions">
        {actions.map(([name, label, act]) => (
          <button key={name} type="button" aria-label={label} title={label} onClick={act}>
            <Icon name={name} />
          </button>
        ))}
      </div>
    </li>
  );
});
