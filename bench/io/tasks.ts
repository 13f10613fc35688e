// What is measured: the line that a guest is given, and in which unit its answer counts. Amounts are
// such that the faster one takes about a second on a host of 2026, short of which starts and ends count.

import { FULL_MIB } from "./images.js";

export interface Task {
  readonly name: string;
  readonly part: "disk" | "serial" | "network";
  readonly unit: "MB/s" | "operations/s" | "KB/s" | "round trips/s";
  /** `fresh`: a MiB of the qcow2 disk from which on nothing has been written. */
  line(peer: { readonly host: string; readonly fresh: number }): string;
}

/** As much as a contender writes to fresh clusters in one round. */
export const FRESH_STEP_MIB = 512;

const disk = (name: string, unit: Task["unit"], line: string): Task => ({
  name,
  part: "disk",
  unit,
  line: () => line,
});

/** Both formats alike: passes over what is full, or operations anywhere in it. */
const onFull = (format: string, name: string): readonly Task[] => [
  disk(`${format}-read`, "MB/s", `read ${name} 0 ${FULL_MIB} 24`),
  disk(`${format}-write`, "MB/s", `write ${name} 0 ${FULL_MIB} 16`),
  disk(`${format}-random-1`, "operations/s", `random1 ${name} 0 ${FULL_MIB} 15000`),
  disk(`${format}-random-32`, "operations/s", `random32 ${name} 0 ${FULL_MIB} 60000`),
];

export const TASKS: readonly Task[] = [
  ...onFull("raw", "vda"),
  ...onFull("qcow2", "vdb"),
  {
    ...disk("qcow2-fresh", "MB/s", ""),
    line: ({ fresh }) => `write vdb ${fresh} ${FRESH_STEP_MIB}`,
  },
  { name: "serial", part: "serial", unit: "KB/s", line: () => "serial ttyS1 1024" },
  { name: "to-guest", part: "network", unit: "MB/s", line: ({ host }) => `receive ${host} 512` },
  { name: "from-guest", part: "network", unit: "MB/s", line: ({ host }) => `send ${host} 512` },
  {
    name: "round-trip",
    part: "network",
    unit: "round trips/s",
    line: ({ host }) => `echo ${host} 15000`,
  },
];

/** Of a unit: one of these is so many bytes or operations. */
export const PER_UNIT: Readonly<Record<Task["unit"], number>> = {
  "MB/s": 1e6,
  "KB/s": 1e3,
  "operations/s": 1,
  "round trips/s": 1,
};
