import { expect, it } from "vitest";
import { type Bar, holds } from "./bench.js";
import { alternate, geometricMean, median, ratios, summarize } from "./statistics.js";
import { figure, table } from "./table.js";

it("medians of odd and even counts", () => {
  expect(median([3, 1, 2])).toBe(2);
  expect(median([4, 1, 2, 3])).toBe(2.5);
  expect(median([])).toBeNaN();
  expect(summarize([2, 9, 4])).toEqual({ median: 4, least: 2, most: 9 });
});

it("ratios by round and geometric means", () => {
  expect(ratios([4, 9], [2, 3])).toEqual([2, 3]);
  expect(geometricMean([2, 8])).toBeCloseTo(4);
});

it("alternates, every other round backwards", async () => {
  const order: string[] = [];
  await alternate(2, ["a", "b"], async (name, round) => void order.push(`${name}${round}`));
  expect(order).toEqual(["a0", "b0", "b1", "a1"]);
});

it("a bar holds within its bounds and never for what was not measured", () => {
  const bar: Bar = { what: "x", value: 2, least: 1, most: 3 };
  expect(holds(bar)).toBe(true);
  expect(holds({ ...bar, value: 0.9 })).toBe(false);
  expect(holds({ ...bar, value: 3.1 })).toBe(false);
  expect(holds({ ...bar, value: Number.NaN })).toBe(false);
});

it("tables are Markdown, figures have three digits", () => {
  expect(table(["what", "n"], [["a", "10"]])).toBe(
    "| what |   n |\n|------|----:|\n| a    |  10 |",
  );
  expect([1234.5, 12.345, 0.012345].map(figure)).toEqual(["1235", "12.3", "0.0123"]);
});
