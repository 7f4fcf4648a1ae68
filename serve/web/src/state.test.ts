import { expect, test } from "vitest";
import {
  bounded,
  chosen,
  countFilters,
  dropped,
  emptyState,
  formatState,
  hid,
  parseState,
  toggled,
  walked,
  weighted,
} from "./state";

const full = {
  seeds: [
    { id: "spirited-away", liked: true, weight: 1 },
    { id: "a&b=c/d", liked: false, weight: 2.5 },
    { id: "2*x", liked: true, weight: 1 },
  ],
  hidden: ["ü?#"],
  filters: {
    is: new Map([["type", ["TV", "Movie"]]]),
    range: new Map([
      ["year", { min: 1990 }],
      ["a.b", { min: -1, max: 2.5 }],
    ]),
    has: new Map([["tags", ["Slice of Life"]]]),
    not: new Map([["tags", ["<b>"]]]),
  },
  diversity: 0.3,
  view: "map" as const,
  walk: ["naruto", "bleach"],
  hood: true,
};

test("a state comes back from its address, whatever letters its ids have", () => {
  expect(parseState(`?${formatState(full)}`)).toEqual(full);
  expect(parseState("")).toEqual(emptyState());
  expect(formatState(emptyState())).toBe("");
});

test("what an address cannot mean is left out", () => {
  const state = parseState(
    "?like=&like=0*a&like=1e9*b&like=c&like=2*c&min.year=abc&max.year=&diversity=7&view=x&is.=1&so=1",
  );
  expect(state).toEqual({
    ...emptyState(),
    seeds: [
      { id: "a", liked: true, weight: 0.01 },
      { id: "1e9*b", liked: true, weight: 1 },
      { id: "c", liked: true, weight: 1 },
    ],
    diversity: 1,
  });
});

test("choosing keeps the weight, and shows what was hidden", () => {
  const liked = weighted(chosen(hid(emptyState(), "a"), "a", true), "a", 3);
  expect(liked.hidden).toEqual([]);
  expect(chosen(liked, "a", false).seeds).toEqual([{ id: "a", liked: false, weight: 3 }]);
  expect(hid(liked, "a")).toEqual({ ...emptyState(), hidden: ["a"] });
  expect(dropped(liked, "a").seeds).toEqual([]);
});

test("walking back cuts the way", () => {
  const far = ["a", "b", "c"].reduce(walked, emptyState());
  expect(far.walk).toEqual(["a", "b", "c"]);
  expect(walked(far, "a").walk).toEqual(["a"]);
});

test("conditions are put in and taken out", () => {
  const one = bounded(toggled(emptyState().filters, "has", "tags", "War"), "year", { max: 2000 });
  expect(countFilters(one)).toBe(2);
  expect(bounded(toggled(one, "has", "tags", "War"), "year", {})).toEqual(emptyState().filters);
});

test("names of objects' own properties are attributes like any other", () => {
  const state = parseState("?is.constructor=a&has.__proto__=b&like=__proto__");
  expect(formatState(state)).toBe("like=__proto__&is.constructor=a&has.__proto__=b");
});
