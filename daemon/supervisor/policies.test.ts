// Restart policy, reconciler and autostart: pure, so that years pass in milliseconds.
import { describe, expect, it } from "vitest";
import {
  Autostart,
  type Power,
  parse,
  Restart,
  type VmPower,
  vmPowers,
} from "../../api-schema/index.js";
import { admit, isOff } from "./admission.js";
import { startsAtBoot, wavesOf } from "./autostart.js";
import { nextStep } from "./reconciler.js";
import { afterEnd, backoffMs, type End } from "./restart-policy.js";

const policy = (wanted: object): Restart => parse(Restart, wanted);
const failed = (at: number, ranMs = 0): End => ({ at, ranMs, failed: true });
const wished = (at: number, ranMs = 0): End => ({ at, ranMs, failed: false });

function* random(seed: number): Generator<number, never> {
  let state = seed;
  for (;;) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    yield state / 2 ** 32;
  }
}

describe("the restart policy", () => {
  it("restarts what it is for, and nothing else", () => {
    const kinds = (name: string): string[] =>
      [failed(0), wished(0)].map((end) => afterEnd(policy({ policy: name }), [], end).kind);
    expect(kinds("never")).toEqual(["leave", "leave"]);
    expect(kinds("on-failure")).toEqual(["restart", "leave"]);
    expect(kinds("always")).toEqual(["restart", "restart"]);
  });

  it("waits twice as long each time, up to its limit", () => {
    const restart = policy({ policy: "always", delay: 2, maxDelay: 10 });
    expect([1, 2, 3, 4, 5, 999].map((n) => backoffMs(restart, n))).toEqual([
      2000, 4000, 8000, 10_000, 10_000, 10_000,
    ]);
    expect(backoffMs(policy({ delay: 5, maxDelay: 1 }), 3)).toBe(5000);
    expect(backoffMs(policy({ delay: 0 }), 50)).toBe(0);
  });

  it("gives up after so many ends within the window", () => {
    const restart = policy({ policy: "on-failure", limit: 3, window: 100, delay: 0 });
    let ends: readonly number[] = [];
    const kinds: string[] = [];
    for (let at = 0; at < 5000; at += 1000) {
      const after = afterEnd(restart, ends, failed(at, 900));
      kinds.push(after.kind);
      ends = after.ends;
    }
    expect(kinds).toEqual(["restart", "restart", "restart", "crash loop", "crash loop"]);
  });

  it("forgets what is older than the window, and all after a long run", () => {
    const restart = policy({ policy: "on-failure", limit: 2, window: 10, delay: 1 });
    expect(afterEnd(restart, [0, 1000, 2000], failed(11_500))).toEqual({
      kind: "restart",
      at: 13_500,
      ends: [2000, 11_500],
    });
    expect(afterEnd(restart, [9_000, 9_500], failed(22_000, 10_001))).toEqual({
      kind: "restart",
      at: 23_000,
      ends: [22_000],
    });
  });

  it("over random lives never restarts more often than its limit within its window", () => {
    for (let seed = 1; seed <= 500; seed++) {
      const numbers = random(seed);
      const draw = (below: number): number => Math.floor(numbers.next().value * below);
      const limit = 1 + draw(5);
      const window = 1 + draw(50);
      const restart = policy({ policy: "always", limit, window, delay: draw(3) });
      const starts: number[] = [];
      let ends: readonly number[] = [];
      for (let at = 0, round = 0; round < 50; round++) {
        const ranMs = draw(window * 1500);
        at += ranMs;
        const after = afterEnd(restart, ends, wished(at, ranMs));
        if (after.kind !== "restart") break;
        expect(after.at).toBeGreaterThanOrEqual(at);
        expect(after.ends.length).toBeLessThanOrEqual(limit);
        ends = after.ends;
        at = after.at;
        starts.push(at);
      }
      for (const start of starts) {
        const near = starts.filter((one) => one >= start && one < start + window * 1000);
        expect(near.length).toBeLessThanOrEqual(limit + 1);
      }
    }
  });
});

describe("the reconciler", () => {
  const powers: readonly Power[] = ["running", "paused", "stopped"];

  it("only takes steps that the state allows", () => {
    for (const power of powers)
      for (const state of vmPowers) {
        const next = nextStep(power, state);
        if (next !== "done" && next !== "wait") expect(admit(state, next).kind).toBe("do");
      }
  });

  it("reaches every power from every state, whatever the guest does on the way", () => {
    const after: Readonly<Record<string, VmPower>> = {
      start: "running",
      pause: "paused",
      resume: "running",
      shutdown: "stopping",
    };
    for (let seed = 1; seed <= 2000; seed++) {
      const numbers = random(seed);
      const draw = <T>(from: readonly T[]): T =>
        from[Math.floor(numbers.next().value * from.length)] as T;
      const power = draw(powers);
      let state: VmPower = draw(vmPowers);
      let next = nextStep(power, state);
      for (let step = 0; next !== "done"; step++) {
        expect(step).toBeLessThan(20);
        if (next !== "wait") state = after[next] ?? state;
        else state = state === "starting" ? draw(["running", "failed"]) : "stopped";
        // A guest may end, but not for ever just when it is to be paused.
        if (step < 5 && !isOff(state) && draw([0, 0, 1]) === 1) state = draw(["stopped", "failed"]);
        next = nextStep(power, state);
      }
      if (power === "stopped") expect(isOff(state)).toBe(true);
      else expect(state).toBe(power);
    }
  });
});

describe("starting with the host", () => {
  const vm = (name: string, autostart: object, power: Power = "running") => ({
    name,
    power,
    autostart: parse(Autostart, autostart),
  });

  it("is for those that are to, and were not stopped where that counts", () => {
    expect(startsAtBoot(vm("a", {}))).toBe(false);
    expect(startsAtBoot(vm("a", { policy: "always" }, "stopped"))).toBe(true);
    expect(startsAtBoot(vm("a", { policy: "unless-stopped" }, "stopped"))).toBe(false);
    expect(startsAtBoot(vm("a", { policy: "unless-stopped" }, "paused"))).toBe(true);
  });

  it("goes in waves, lower orders first, the longest delay of a wave before the next", () => {
    const waves = wavesOf([
      vm("web", { order: 20 }),
      vm("dns", { order: 1, delay: 5 }),
      vm("db2", { order: 10, delay: 1 }),
      vm("db1", { order: 10, delay: 3 }),
    ]);
    expect(waves.map(({ members, delay }) => [members.map(({ name }) => name), delay])).toEqual([
      [["dns"], 5],
      [["db1", "db2"], 3],
      [["web"], 0],
    ]);
  });
});
