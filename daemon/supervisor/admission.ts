// May this request be accepted now? Pure functions of the VM's state and of what was accepted
// before and is not done yet, so that they can be tested with thousands of random histories and no
// VM. A request is judged twice: when it comes, by what the VM will be when its turn comes; and at
// its turn, by what the VM then is (the guest has a will of its own). The table of states is
// api-schema's: clients see the same one.
import { actionsIn, type VmAction, type VmPower, vmActions } from "../../api-schema/index.js";

export type Request = VmAction;

export type Verdict =
  | { readonly kind: "do" }
  | { readonly kind: "already" } // an idempotent repeat: success, and nothing to do
  | { readonly kind: "deny"; readonly state: VmPower };

const OFF: ReadonlySet<VmPower> = new Set(["defined", "stopped", "failed"]);

export const isOff = (state: VmPower): boolean => OFF.has(state);

/** These never wait behind a request that hangs. */
export const overtakes = (request: Request): boolean => request === "stop" || request === "kill";

export function admit(state: VmPower, request: Request): Verdict {
  const admission: { do: readonly VmPower[]; already: readonly VmPower[] } = vmActions[request];
  if (admission.do.includes(state)) return { kind: "do" };
  return admission.already.includes(state) ? { kind: "already" } : { kind: "deny", state };
}

/** What carrying a request out leads to; the guest may do something else in between. */
const OUTCOMES: Readonly<Partial<Record<Request, VmPower>>> = {
  start: "running",
  stop: "stopped",
  kill: "stopped",
  shutdown: "stopping",
  pause: "paused",
  resume: "running",
};

/** What the VM will be when these have been carried out, as far as one can know. */
export const expected = (state: VmPower, waiting: readonly Request[]): VmPower =>
  waiting.reduce(
    (now, request) => (admit(now, request).kind === "do" ? (OUTCOMES[request] ?? now) : now),
    state,
  );

/** The verdict when the request comes; `waiting`: accepted before it and not done. */
export function judge(state: VmPower, waiting: readonly Request[], request: Request): Verdict {
  const starts = waiting.includes("start");
  if (overtakes(request)) return admit(starts && isOff(state) ? "starting" : state, request);
  const verdict = admit(expected(state, waiting), request);
  // A repeat of what still waits waits too: its answer is then true.
  if (verdict.kind === "already" && waiting.length > 0) return { kind: "do" };
  if (verdict.kind !== "deny" || waiting.length === 0) return verdict;
  return { kind: "deny", state: starts && isOff(state) ? "starting" : state };
}

/** What a VM in this state can be asked, for error messages and clients. */
export const allowed = actionsIn;
