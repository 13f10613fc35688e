// A slice of the long run (npm run test:long): XHYVED_CHAOS_ROUNDS and XHYVED_CHAOS_SEED choose.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Chaos } from "../test/daemon/chaos.js";
import { TestDaemon } from "../test/daemon/daemon.js";

const rounds = Number(process.env.XHYVED_CHAOS_ROUNDS ?? 8);
const seed = Number(process.env.XHYVED_CHAOS_SEED ?? Date.now() % 1_000_000);
const MS_PER_ROUND = 30_000;

let daemon: TestDaemon;
beforeAll(async () => {
  daemon = await TestDaemon.start(["--log-level", "error"]);
});
afterAll(() => daemon.end());

describe("a daemon that is killed at random moments", () => {
  it(`loses nothing in ${rounds} rounds (seed ${seed})`, {
    timeout: rounds * MS_PER_ROUND,
  }, async () => {
    const outcome = await new Chaos(daemon, seed).run(rounds, (round) => {
      if (round % 50 === 0) console.log(`  ${round} rounds`);
    });
    console.log(`  seed ${seed}: ${JSON.stringify(outcome)}`);
    expect(outcome.acknowledged).toBeGreaterThan(rounds);
    expect(outcome.torn).toBeGreaterThan(rounds / 10);
  });
});
