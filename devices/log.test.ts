import { expect, it } from "vitest";
import { limitedLog } from "./log.js";

it("passes on 20 lines a minute and says how many it kept", () => {
  const lines: string[] = [];
  let now = 0;
  const log = limitedLog(
    (text) => void lines.push(text),
    () => now,
  );
  for (let i = 0; i < 50; i++) log(`line ${i}`);
  expect([lines.length, lines.at(-1)]).toEqual([20, "line 19"]);
  now = 60_000;
  log("after a minute");
  expect(lines.slice(20)).toEqual(["30 more lines were not written", "after a minute"]);
});
