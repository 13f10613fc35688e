// May this verb be accepted now? A pure function of the VM's state and of what it is already
// doing, so that it can be tested with thousands of random histories and no VM.
import type { Verb, VmPower } from "../../api-schema/index.js";

export type Request = Verb | "change" | "delete";

export type Verdict =
  | { readonly kind: "do" }
  | { readonly kind: "already" } // an idempotent repeat: success, and nothing to do
  | { readonly kind: "deny"; readonly state: VmPower };

const doIt: Verdict = { kind: "do" };
const already: Verdict = { kind: "already" };

const OFF: ReadonlySet<VmPower> = new Set(["defined", "stopped", "failed"]);
const LIVE: ReadonlySet<VmPower> = new Set(["running", "paused"]);

export const isOff = (state: VmPower): boolean => OFF.has(state);

export function admit(state: VmPower, request: Request): Verdict {
  const deny: Verdict = { kind: "deny", state };
  switch (request) {
    case "start":
      return OFF.has(state) ? doIt : deny;
    case "stop":
      return OFF.has(state) ? already : doIt;
    case "shutdown":
      if (OFF.has(state) || state === "stopping") return already;
      return state === "running" ? doIt : deny;
    case "pause":
      return state === "paused" ? already : state === "running" ? doIt : deny;
    case "resume":
      return state === "running" ? already : state === "paused" ? doIt : deny;
    case "reset":
      return LIVE.has(state) ? doIt : deny;
    case "change":
    case "delete":
      return OFF.has(state) ? doIt : deny;
  }
}

/** What a VM in this state can be asked, for error messages and clients. */
export const allowed = (state: VmPower): readonly Request[] =>
  (["start", "shutdown", "stop", "reset", "pause", "resume", "change", "delete"] as const).filter(
    (request) => admit(state, request).kind === "do",
  );
