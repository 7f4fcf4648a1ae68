import { expect, test } from "vitest";
import { parseTiming } from "./api";
import {
  count,
  factsOf,
  formatAge,
  formatBytes,
  formatNumber,
  formatScore,
  imageOf,
  tagsOf,
  tileOf,
  titleOf,
} from "./format";

test("a tile is stable, and made of the words that tell", () => {
  expect(tileOf("The Lord of the Rings")).toEqual(tileOf("The Lord of the Rings"));
  expect(tileOf("The Lord of the Rings").initials).toBe("LR");
  expect(tileOf("千と千尋の神隠し").initials).toBe("千");
  expect(tileOf("!!!").initials).toBe("?");
  expect(tileOf("The").initials).toBe("T");
});

test("facts are short, the year first, and never the picture or a text", () => {
  const about = {
    snapshot: "s",
    items: 10,
    image: "cover",
    attributes: (["title", "cover", "rating", "kind", "blurb", "year"] as const).map((name) => ({
      name,
      type: name === "year" ? ("int64" as const) : name === "rating" ? ("float64" as const) : ("string" as const),
      present: 10,
      distinct: name === "blurb" ? 10 : 3,
      min: null,
      max: null,
      values: [],
    })),
  };
  const payload = {
    title: "T",
    cover: "/a.png",
    rating: 8.25,
    kind: "TV",
    blurb: "x",
    year: 1999,
    tags: ["a", "b", "a", null],
  };
  expect(factsOf({ id: 1, payload }, about)).toEqual(["1999", "TV", "rating 8.25"]);
  expect(factsOf({ id: 1, payload }, undefined)).toEqual([]);
  expect(tagsOf({ id: 1, payload })).toEqual(["a", "b"]);
  expect(titleOf({ id: 7, payload: {} })).toBe("7");
});

test("only addresses of pictures are pictures", () => {
  const image = (cover: unknown) => imageOf({ id: 1, payload: { cover } }, "cover");
  for (const good of ["https://x.example/a.png", "/a.png", "./a.png", "data:image/png;base64,AA"])
    expect(image(good)).toBe(good);
  for (const bad of ["javascript:alert(1)", "//x.example/a", "/\\x.example/a", "data:text/html,x", 7, undefined])
    expect(image(bad)).toBeUndefined();
  expect(imageOf({ id: 1, payload: { cover: "/a.png" } }, null)).toBeUndefined();
});

test("numbers, ages and sizes read well", () => {
  expect([formatBytes(0), formatBytes(868_600), formatBytes(5_730_000_000)]).toEqual(["0 B", "869 KB", "5.7 GB"]);
  const now = Date.parse("2026-01-02T00:00:00Z");
  expect(formatAge("2026-01-01T22:00:00Z", now)).toBe("2 hours");
  expect(formatAge("2026-01-01T00:00:00Z", now)).toBe("1 day");
  expect(formatAge("2026-01-02T00:00:10Z", now)).toBe("0 s");
  expect([1.47486, 0.00004, 0, -0.25, 12345.6].map(formatScore)).toEqual([
    "1.475",
    "0.0000400",
    "0.000",
    "-0.250",
    "1.235e+4",
  ]);
  expect([0.0012, 1234.5].map(formatNumber)).toEqual(["0.0012", "1,234.5"]);
  expect(count(1, "hit")).toBe("1 hit");
  expect(count(1200, "hit")).toBe("1,200 hits");
});

test("Server-Timing is read", () => {
  expect(parseTiming("search;dur=1.727, encode;dur=0.160, total;dur=5.407")).toEqual({
    search: 1.727,
    encode: 0.16,
    total: 5.407,
  });
  expect(parseTiming("")).toEqual({});
});
