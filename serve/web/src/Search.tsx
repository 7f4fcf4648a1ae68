import { useEffect, useId, useRef, useState } from "react";
import { type Attributes, ask, type Item } from "./api";
import { factsOf, imageOf, titleOf } from "./format";
import { useAsked, useRested } from "./hooks";
import { Icon } from "./icons";
import { Tile } from "./Tile";

interface Props {
  about?: Attributes;
  pick: (item: Item, liked: boolean) => void;
}

const LONGEST = 200;

/** A box that finds titles while one types: arrows, Enter, Escape, as the ARIA combobox pattern has it. */
export function Search({ about, pick }: Props) {
  const [text, setText] = useState("");
  const [open, setOpen] = useState(false);
  const [active, setActive] = useState(0);
  /** Enter was pressed before the answer came: whether it likes. */
  const [entered, setEntered] = useState<boolean>();
  const words = [...text.trim()].slice(0, LONGEST).join("");
  const rested = useRested(words, 100);
  const list = useId();
  const box = useRef<HTMLInputElement>(null);
  const found = useAsked<{ items: Item[]; total: number }>(rested || undefined, (signal) =>
    ask(`v1/items?limit=8&q=${encodeURIComponent(rested)}`, signal),
  );
  const fresh = rested === words && !found.waiting && !found.error;
  const items = words && rested ? (found.value?.items ?? []) : [];
  const shown = open && words !== "" && (found.value !== undefined || found.error !== undefined);

  useEffect(() => {
    const focus = (event: KeyboardEvent) => {
      const writing = "textarea, select, input:not([type=range], [type=checkbox])";
      const typing = event.target instanceof HTMLElement && event.target.closest(writing);
      if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      box.current?.focus();
    };
    addEventListener("keydown", focus);
    return () => removeEventListener("keydown", focus);
  }, []);

  // biome-ignore lint/correctness/useExhaustiveDependencies: another list begins at its first entry
  useEffect(() => setActive(0), [found.value]);

  // biome-ignore lint/correctness/useExhaustiveDependencies: what was entered waits for a fresh list
  useEffect(() => {
    if (entered === undefined || !fresh) return;
    setEntered(undefined);
    choose(items[0], entered);
  }, [entered, fresh]);

  useEffect(() => {
    document.getElementById(`${list}-${active}`)?.scrollIntoView({ block: "nearest" });
  }, [list, active]);

  function choose(item: Item | undefined, liked: boolean) {
    if (!item) return;
    pick(item, liked);
    setText("");
    setOpen(false);
  }

  function onKeyDown(event: React.KeyboardEvent) {
    if (event.nativeEvent.isComposing) return;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      event.preventDefault();
      if (shown && items.length) setActive((active + step + items.length) % items.length);
      setOpen(true);
    } else if (event.key === "Enter") {
      event.preventDefault();
      if (shown && fresh) choose(items[active], !event.shiftKey);
      else if (words) setEntered(!event.shiftKey);
    } else if (event.key === "Escape") {
      if (shown) setOpen(false);
      else setText("");
    }
  }

  return (
    <search className="search">
      <Icon name="search" />
      <input
        ref={box}
        type="text"
        role="combobox"
        aria-label="Find a title"
        aria-expanded={shown}
        aria-controls={list}
        aria-autocomplete="list"
        aria-activedescendant={shown && items[active] ? `${list}-${active}` : undefined}
        placeholder="Find a title you love…"
        autoComplete="off"
        spellCheck={false}
        value={text}
        onChange={(event) => {
          setText(event.target.value);
          setEntered(undefined);
          setOpen(true);
        }}
        onFocus={() => setOpen(true)}
        onBlur={() => setOpen(false)}
        onKeyDown={onKeyDown}
      />
      <kbd aria-hidden="true">/</kbd>
      <div className="drop" hidden={!shown}>
        <div id={list} role="listbox" aria-label="Titles found">
          {items.map((item, place) => (
            // biome-ignore lint/a11y/useKeyWithClickEvents: the box has the focus and takes the keys
            <div
              key={String(item.id)}
              id={`${list}-${place}`}
              role="option"
              tabIndex={-1}
              aria-selected={place === active}
              onMouseDown={(event) => event.preventDefault()}
              onMouseMove={() => setActive(place)}
              onClick={(event) => choose(item, !event.shiftKey)}
            >
              <Tile title={titleOf(item)} image={imageOf(item, about?.image)} size="small" />
              <span className="words">
                <b>{titleOf(item)}</b>
                <small>{factsOf(item, about, 3).join(" · ")}</small>
              </span>
            </div>
          ))}
        </div>
        <p className="hint" role="status">
          {found.error && !items.length
            ? "Titles cannot be searched right now."
            : items.length
              ? `${found.value?.total.toLocaleString("en")} found · Enter likes, Shift+Enter dislikes`
              : "Nothing found: titles are found by how their words begin, items also by their whole id."}
        </p>
      </div>
    </search>
  );
}
