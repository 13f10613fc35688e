// Hostile traffic at a whole machine, ten seconds of it; test/system has a minute, and one with
// sanitizers. XHYVED_FUZZ_SEED and XHYVED_FUZZ_SECONDS choose others.
import { expect, it } from "vitest";
import { fuzz } from "../fuzz/run.js";

const SEED = Number(process.env.XHYVED_FUZZ_SEED ?? 20261122);
const SECONDS = Number(process.env.XHYVED_FUZZ_SECONDS ?? 10);

it("no access and no DMA structure breaks a machine", {
  timeout: (SECONDS + 120) * 1000,
}, async () => {
  const { rounds, accesses, halted } = await fuzz(SEED, SECONDS);
  expect(rounds).toBeGreaterThan(0);
  expect(accesses).toBeGreaterThan(100 * rounds);
  // Some traffic ends the guest: a reset of its own CPU, for one.
  expect(halted).toBeGreaterThan(rounds / 2);
});
