import { type Attributes, ask, type Item } from "./api";
import { count, imageOf, titleOf } from "./format";
import { useAsked } from "./hooks";
import { Tile } from "./Tile";

const LOOKED_AT = 100;
const SHOWN = 12;

/** Nothing is chosen yet: what the page is for, and some titles to begin with. */
export function Start({
  about,
  snapshot,
  pick,
}: {
  about?: Attributes;
  snapshot?: string;
  pick: (item: Item) => void;
}) {
  const found = useAsked<{ items: Item[]; total: number }>(snapshot, (signal) =>
    ask(`v1/items?limit=${LOOKED_AT}`, signal),
  );
  const items = found.value?.items ?? [];
  const step = Math.max(1, Math.floor(items.length / SHOWN));
  return (
    <section className="welcome" aria-label="Start">
      <h1>
        Pick titles you love.
        <br />
        See what goes with them, and why.
      </h1>
      <p>
        {found.value && `${count(found.value.total, "title")} ${found.value.total === 1 ? "is" : "are"} ready. `}
        {items.length ? "Search above, or begin with one of these:" : "Search above."}
      </p>
      <ul>
        {items
          .filter((_, place) => place % step === 0)
          .slice(0, SHOWN)
          .map((item) => (
            <li key={String(item.id)}>
              <button type="button" onClick={() => pick(item)}>
                <Tile title={titleOf(item)} image={imageOf(item, about?.image)} size="small" /> {titleOf(item)}
              </button>
            </li>
          ))}
      </ul>
    </section>
  );
}
