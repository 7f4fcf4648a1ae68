import { expect, test } from "vitest";
import type { Attribute } from "./api";
import { facetsOf, filterOf, stepOf } from "./facets";
import { noFilters, parseState } from "./state";

const attribute = (given: Partial<Attribute>): Attribute => ({
  name: "x",
  type: "string",
  present: 100,
  distinct: 2,
  min: null,
  max: null,
  values: [
    { value: "a", count: 60 },
    { value: "b", count: 40 },
  ],
  ...given,
});

const facets = (...attributes: Attribute[]) => facetsOf({ snapshot: "s", items: 100, image: "cover", attributes });

test("any catalogue's attributes become what they can be filtered by", () => {
  const found = facets(
    attribute({ name: "title" }),
    attribute({ name: "cover" }),
    attribute({ name: "genres", type: "list<string>", distinct: 80 }),
    attribute({ name: "maker", distinct: 40 }),
    attribute({ name: "price", type: "float64", min: 0.5, max: 9.5, values: [] }),
    attribute({ name: "kind" }),
  );
  expect(found.map(({ name, kind }) => `${name} ${kind}`)).toEqual([
    "kind choices",
    "price range",
    "genres tags",
    "maker tags",
  ]);
});

test("what tells nothing is no filter", () => {
  const long = "a sentence that goes on and on and is certainly a description of something";
  expect(
    facets(
      attribute({ name: "sku", distinct: 100 }),
      attribute({ name: "same", distinct: 1 }),
      attribute({ name: "text", values: [{ value: long, count: 2 }] }),
      attribute({ name: "year", type: "int64", min: 2000, max: 2000 }),
      attribute({ name: "none", type: "int64" }),
      attribute({ name: "tags", type: "list<string>", values: [] }),
    ),
  ).toEqual([]);
});

test("conditions become the filter of a request", () => {
  expect(filterOf(noFilters())).toBeUndefined();
  expect(filterOf(parseState("is.type=TV&is.type=OVA&min.year=0&has.tags=a&has.tags=b&not.tags=c").filters)).toEqual({
    must: [
      { key: "type", match: { any: ["TV", "OVA"] } },
      { key: "year", range: { gte: 0 } },
      { key: "tags", match: { value: "a" } },
      { key: "tags", match: { value: "b" } },
    ],
    must_not: [{ key: "tags", match: { any: ["c"] } }],
  });
});

test("steps are whole for whole numbers, and fine for others", () => {
  const [whole] = facets(attribute({ type: "int64", min: 1963, max: 2024 }));
  const [large] = facets(attribute({ type: "int64", min: 0, max: 1e9 }));
  expect(large && stepOf(large)).toBe(1e6);
  const [fine] = facets(attribute({ type: "float64", min: 6.5, max: 9 }));
  expect(whole && stepOf(whole)).toBe(1);
  expect(fine && stepOf(fine)).toBeCloseTo(0.1);
});
