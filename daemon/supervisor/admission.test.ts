import { describe, expect, it } from "vitest";
import type { VmPower } from "../../api-schema/index.js";
import { admit, allowed, expected, isOff, judge, type Request } from "./admission.js";

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
  "kill",
  "reset",
  "pause",
  "resume",
  "change",
  "clone",
  "delete",
] as const;

/** What carrying a request out leads to, written from the API's description. */
const OUTCOMES: Readonly<Record<Request, VmPower>> = {
  start: "running",
  shutdown: "stopping",
  stop: "stopped",
  kill: "stopped",
  reset: "running",
  pause: "paused",
  resume: "running",
  change: "defined",
  clone: "defined",
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
    for (const state of STATES)
      for (const request of ["stop", "kill"] as const)
        expect(admit(state, request).kind).not.toBe("deny");
  });

  it("starts, clones and deletes only what is off", () => {
    for (const state of STATES)
      for (const request of ["clone", "delete", "start"] as const)
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
    for (let seed = 1; seed <= 500; seed++) {
      const numbers = random(seed);
      const draw = <T>(from: readonly T[]): T =>
        from[Math.floor((numbers.next().value ?? 0) * from.length)] as T;
      let state: VmPower = "defined";
      for (let step = 0; step < 40; step++) {
        const request: Request = draw(REQUESTS);
        const verdict = admit(state, request);
        expect(allowed(state).includes(request)).toBe(verdict.kind === "do");
        if (verdict.kind === "do" && !["change", "clone", "delete"].includes(request))
          state = OUTCOMES[request];
        // The guest's own doing.
        if (state === "stopping" || draw([0, 0, 0, 1]) === 1)
          state = isOff(state) ? state : draw(["stopped", "failed"] as const);
      }
      expect(admit(state, "stop").kind).not.toBe("deny");
    }
  });

  it("judges by what the VM will be: a pause behind a start is good, a second start is not", () => {
    expect(judge("defined", ["start"], "pause")).toEqual({ kind: "do" });
    expect(judge("defined", ["start"], "start")).toEqual({ kind: "deny", state: "starting" });
    expect(judge("running", ["shutdown"], "pause")).toEqual({ kind: "deny", state: "running" });
    expect(judge("running", ["pause"], "pause")).toEqual({ kind: "do" });
    expect(judge("paused", [], "pause")).toEqual({ kind: "already" });
    expect(judge("defined", ["start"], "stop")).toEqual({ kind: "do" });
    expect(judge("defined", ["change"], "kill")).toEqual({ kind: "already" });
  });

  /** A VM that does what its queue says, and things of its own; checks every step. */
  function history(seed: number): void {
    const numbers = random(seed);
    const draw = <T>(from: readonly T[]): T =>
      from[Math.floor((numbers.next().value ?? 0) * from.length)] as T;
    let state: VmPower = "defined";
    let waiting: Request[] = [];
    let isStopped = false;
    for (let step = 0; step < 60; step++) {
      const what = draw(["ask", "ask", "serve", "serve", "guest"] as const);
      if (what === "ask" && waiting.length < 8) {
        const request: Request = draw(REQUESTS);
        const verdict = judge(state, waiting, request);
        const then = expected(state, waiting);
        if (request === "stop" || request === "kill") {
          // Never refused, never behind another; what waited is judged again at its turn.
          expect(verdict.kind).not.toBe("deny");
          if (verdict.kind === "already") expect(isOff(state)).toBe(true);
          waiting = waiting.filter((one) => one !== "start");
          if (!isOff(state)) state = "stopped";
          isStopped = true;
        } else if (verdict.kind === "do") {
          expect(admit(then, request).kind).not.toBe("deny");
          waiting.push(request);
          if (request === "start") isStopped = false;
        } else if (verdict.kind === "already") expect(waiting).toEqual([]);
        else expect(admit(then, request).kind).toBe("deny");
      } else if (what === "serve") {
        const request = waiting.shift();
        if (request === undefined) continue;
        const verdict = admit(state, request);
        if (verdict.kind !== "do") continue;
        if (request === "start") expect(isOff(state)).toBe(true); // never twice
        const predicted = expected(state, [request]);
        if (OUTCOMES[request] !== "defined" && request !== "reset")
          expect(predicted).toBe(OUTCOMES[request]);
        state = predicted;
      } else if (!isOff(state)) {
        state = state === "stopping" ? "stopped" : draw(["failed", "stopped", state] as const);
      }
      if (isStopped) expect(isOff(state)).toBe(true); // a stop is the last word until a start
    }
  }

  it("holds over random histories of requests, their turns and guests with a will", () => {
    for (let seed = 1; seed <= 1000; seed++) history(seed);
  });
});
