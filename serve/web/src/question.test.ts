import { expect, test } from "vitest";
import { pageOf, questionOf, scaleOf, segmentsOf, sum } from "./question";
import { chosen, emptyState, weighted } from "./state";

test("a state becomes the body of a request", () => {
  expect(questionOf(emptyState())).toBeUndefined();
  expect(questionOf(chosen(emptyState(), "a", false))).toBeUndefined();
  const one = chosen(emptyState(), "a", true);
  expect(questionOf(one)).toEqual({ positive: ["a"] });
  const many = { ...weighted(chosen(one, "b", false), "a", 2), hidden: ["c"], diversity: 0.5 };
  expect(questionOf(many)).toEqual({
    positive: [{ id: "a", weight: 2 }],
    negative: ["b"],
    exclude_ids: ["c"],
    diversity: 0.5,
    explain: true,
  });
});

test("pages follow each other; a diverse answer is asked for as a whole", () => {
  expect(pageOf({ positive: ["a"] }, 24)).toEqual({ positive: ["a"], offset: 24, limit: 24 });
  expect(pageOf({ positive: ["a"], diversity: 1 }, 24)).toEqual({ positive: ["a"], diversity: 1, limit: 48 });
});

test("segments keep the order of the seeds, and add up to the score", () => {
  const seeds = ["1", "b", "c"].map((id) => ({ id, liked: id !== "c", weight: 1 }));
  const explain = [
    { id: "c", contribution: -0.25 },
    { id: "b", contribution: 1 },
    { id: 1, contribution: 0.5 },
  ];
  const { added, taken } = segmentsOf(explain, seeds);
  expect(added).toEqual([
    { seed: 0, value: 0.5 },
    { seed: 1, value: 1 },
  ]);
  expect(taken).toEqual([{ seed: 2, value: 0.25 }]);
  expect(sum(added) - sum(taken)).toBe(1.25);
  expect(scaleOf([{ score: 1.25, explain }, { score: 0.2 }])).toBe(1.5);
  expect(scaleOf([{ score: 0.02 }, { score: -0.5 }, { score: null }])).toBe(0.5);
  expect(scaleOf([])).toBeGreaterThan(0);
});
