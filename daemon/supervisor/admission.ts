// May this be accepted now? A pure function of the VM's state, so that it can be tested with
// thousands of random histories and no VM. The table is api-schema's: clients see the same one.
import { actionsIn, type VmAction, type VmPower, vmActions } from "../../api-schema/index.js";

export type Request = VmAction;

export type Verdict =
  | { readonly kind: "do" }
  | { readonly kind: "already" } // an idempotent repeat: success, and nothing to do
  | { readonly kind: "deny"; readonly state: VmPower };

const OFF: ReadonlySet<VmPower> = new Set(["defined", "stopped", "failed"]);

export const isOff = (state: VmPower): boolean => OFF.has(state);

export function admit(state: VmPower, request: Request): Verdict {
  const admission: { do: readonly VmPower[]; already: readonly VmPower[] } = vmActions[request];
  if (admission.do.includes(state)) return { kind: "do" };
  return admission.already.includes(state) ? { kind: "already" } : { kind: "deny", state };
}

/** What a VM in this state can be asked, for error messages and clients. */
export const allowed = actionsIn;
