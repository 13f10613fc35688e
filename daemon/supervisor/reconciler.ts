// From what a VM should be to the next thing to do about it: pure, and looked at again after
// every change, so that it does not matter what happened in between.
import type { Power, VmPower } from "../../api-schema/index.js";

export type Step = "start" | "shutdown" | "pause" | "resume";

/** `done`: it is what it should be. `wait`: something is under way that will be followed. */
export type Next = Step | "done" | "wait";

const TABLE: Readonly<Record<Power, Readonly<Record<VmPower, Next>>>> = {
  running: {
    defined: "start",
    stopped: "start",
    failed: "start",
    starting: "wait",
    stopping: "wait",
    running: "done",
    paused: "resume",
  },
  paused: {
    defined: "start",
    stopped: "start",
    failed: "start",
    starting: "wait",
    stopping: "wait",
    running: "pause",
    paused: "done",
  },
  stopped: {
    defined: "done",
    stopped: "done",
    failed: "done",
    starting: "wait",
    stopping: "wait",
    running: "shutdown",
    // A guest that does not run hears no button: it goes on first.
    paused: "resume",
  },
};

export const nextStep = (power: Power, state: VmPower): Next => TABLE[power][state];
