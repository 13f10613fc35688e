// daemon/fuzz.test.ts for a minute, with a seed of its own: it is told, to be had again.
import { spawnSync } from "node:child_process";
import { expect, it } from "vitest";
import { projectRoot } from "../guest/paths.js";

it("a minute of random requests gets answers below 500", () => {
  const seed = String(Date.now() % 1_000_000);
  const run = spawnSync("npx", ["vitest", "run", "--project", "unit", "daemon/fuzz.test.ts"], {
    cwd: projectRoot,
    env: { ...process.env, XHYVED_FUZZ_SECONDS: "60", XHYVED_FUZZ_SEED: seed },
    encoding: "utf8",
  });
  expect(run.status, `seed ${seed}: ${run.stdout}${run.stderr}`).toBe(0);
}, 180_000);
