import { expect, test } from "vitest";
import { centersOf, graphOf, neighborsOf } from "./graph";
import { chosen, emptyState, walked } from "./state";

const hit = (id: string, score: number) => ({ id, score, payload: { title: id.toUpperCase() } });

test("the places visited last come first, and there are not too many", () => {
  const state = walked(chosen(chosen(emptyState(), "a", true), "b", false), "c");
  expect(centersOf(state)).toEqual(["c", "a", "b"]);
  expect(centersOf(walked(state, "a"))).toEqual(["a", "c", "b"]);
  const many = Array.from({ length: 20 }, (_, n) => `s${n}`).reduce((now, id) => chosen(now, id, true), emptyState());
  expect(centersOf(many)).toHaveLength(8);
  expect(neighborsOf(1, false)).toBeGreaterThan(neighborsOf(8, false));
  expect(neighborsOf(1, true)).toBeLessThan(neighborsOf(1, false));
});

test("one node an item, one link a pair", () => {
  const state = chosen(chosen(emptyState(), "a", true), "b", false);
  const answers = [
    [hit("b", 0.9), hit("x", 0.5)],
    [hit("a", 0.9), hit("x", 0.25)],
  ];
  const { nodes, links } = graphOf(state, ["a", "b"], answers, new Map([["a", { id: "a", payload: { title: "A" } }]]));
  expect(nodes.map(({ id, title, kind }) => [id, title, kind])).toEqual([
    ["x", "X", "near"],
    ["b", "b", "disliked"],
    ["a", "A", "liked"],
  ]);
  expect(links).toEqual([
    { source: "a", target: "b", score: 0.9 },
    { source: "a", target: "x", score: 0.5 },
    { source: "b", target: "x", score: 0.25 },
  ]);
});
