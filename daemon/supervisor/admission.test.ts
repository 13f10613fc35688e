import { describe, expect, it } from "vitest";
import type { VmPower } from "../../api-schema/index.js";
import { admit, allowed, isOff, type Request } from "./admission.js";

const STATES = [
  "defined",
  "starting",
  "running",
  "paused",
  "stopping",
  "stopped",
  "failed",
] as const;
const REQUESTS = [
  "start",
  "shutdown",
  "stop",
  "reset",
  "pause",
  "resume",
  "change",
  "delete",
] as const;

/** What carrying a request out leads to, written from the API's description. */
const OUTCOMES: Readonly<Record<Request, VmPower>> = {
  start: "running",
  shutdown: "stopping",
  stop: "stopped",
  reset: "running",
  pause: "paused",
  resume: "running",
  change: "defined",
  delete: "defined",
};

/** The same sequence for the same seed. */
function* random(seed: number): Generator<number> {
  let state = seed;
  for (;;) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    yield state / 2 ** 32;
  }
}

describe("admission", () => {
  it("lets a stop through from every state", () => {
    for (const state of STATES) expect(admit(state, "stop").kind).not.toBe("deny");
  });

  it("changes and deletes only what is off", () => {
    for (const state of STATES)
      for (const request of ["change", "delete", "start"] as const)
        expect(admit(state, request).kind === "do").toBe(isOff(state));
  });

  it("answers an idempotent repeat without doing anything", () => {
    expect(admit("paused", "pause").kind).toBe("already");
    expect(admit("running", "resume").kind).toBe("already");
    expect(admit("stopped", "stop").kind).toBe("already");
    expect(admit("stopped", "shutdown").kind).toBe("already");
  });

  it("refuses a start of a running VM, and names the state", () => {
    expect(admit("running", "start")).toEqual({ kind: "deny", state: "running" });
  });

  it("keeps every random history among the states that can follow", () => {
    for (let seed = 1; seed <= 2000; seed++) {
      const numbers = random(seed);
      const draw = <T>(from: readonly T[]): T =>
        from[Math.floor((numbers.next().value ?? 0) * from.length)] as T;
      let state: VmPower = "defined";
      for (let step = 0; step < 40; step++) {
        const request: Request = draw(REQUESTS);
        const verdict = admit(state, request);
        expect(allowed(state).includes(request)).toBe(verdict.kind === "do");
        if (verdict.kind === "do" && request !== "change" && request !== "delete")
          state = OUTCOMES[request];
        // The guest's own doing.
        if (state === "stopping" || draw([0, 0, 0, 1]) === 1)
          state = isOff(state) ? state : draw(["stopped", "failed"] as const);
      }
      expect(admit(state, "stop").kind).not.toBe("deny");
    }
  });
});
