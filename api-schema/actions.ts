// What a VM can be asked, and in which states. `do`: it is carried out. `already`: it is so, or on
// its way: success, and nothing to do. Any other state refuses it with VM_STATE_FORBIDS.
import type { VmPower } from "./daemon-api.js";
import { VmError } from "./errors.js";

interface Admission {
  readonly do: readonly VmPower[];
  readonly already: readonly VmPower[];
}

const off = ["defined", "stopped", "failed"] as const satisfies readonly VmPower[];
const on = ["starting", "running", "paused", "stopping"] as const satisfies readonly VmPower[];

export const vmActions = {
  start: { do: off, already: [] },
  shutdown: { do: ["running"], already: [...off, "stopping"] },
  stop: { do: on, already: off },
  kill: { do: on, already: off },
  reset: { do: ["running", "paused"], already: [] },
  pause: { do: ["running"], already: ["paused"] },
  resume: { do: ["paused"], already: ["running"] },
  /** While it runs, of what no VM process looks at: labels, restarts, autostart, probes. */
  change: { do: [...off, "running", "paused"], already: [] },
  clone: { do: off, already: [] },
  delete: { do: off, already: [] },
} as const satisfies Record<string, Admission>;

export type VmAction = keyof typeof vmActions;

export const isVmAction = (name: string): name is VmAction => Object.hasOwn(vmActions, name);

const doneByOthers: Partial<Record<VmAction, string>> = {
  kill: "be killed",
  reset: "be reset",
  change: "be changed",
  clone: "be cloned",
  delete: "be deleted",
};

/** VM_STATE_FORBIDS: "a VM that is running cannot start", "… cannot be deleted". */
export const forbidden = (state: string, action: VmAction): VmError =>
  new VmError("VM_STATE_FORBIDS", [state, doneByOthers[action] ?? action]);

/** What a VM in this state can be asked so that something happens. */
export const actionsIn = (state: VmPower): readonly VmAction[] =>
  Object.entries<Admission>(vmActions).flatMap(([name, { do: states }]) =>
    states.includes(state) && isVmAction(name) ? [name] : [],
  );
