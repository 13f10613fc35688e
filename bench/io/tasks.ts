// What is measured: the line that a guest is given, and in which unit its answer counts.

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

export const TASKS: readonly Task[] = [
  disk("raw-read", "MB/s", "read vda 0 256 6"),
  disk("raw-write", "MB/s", "write vda 0 256 6"),
  disk("raw-random-1", "operations/s", "random1 vda 0 256"),
  disk("raw-random-32", "operations/s", "random32 vda 0 256"),
  disk("qcow2-read", "MB/s", "read vdb 0 256 6"),
  disk("qcow2-write", "MB/s", "write vdb 0 256 6"),
  {
    ...disk("qcow2-fresh", "MB/s", ""),
    line: ({ fresh }) => `write vdb ${fresh} ${FRESH_STEP_MIB}`,
  },
  disk("qcow2-random-1", "operations/s", "random1 vdb 0 256"),
  disk("qcow2-random-32", "operations/s", "random32 vdb 0 256"),
  { name: "serial", part: "serial", unit: "KB/s", line: () => "serial ttyS1 256" },
  { name: "to-guest", part: "network", unit: "MB/s", line: ({ host }) => `receive ${host} 128` },
  { name: "from-guest", part: "network", unit: "MB/s", line: ({ host }) => `send ${host} 128` },
  {
    name: "round-trip",
    part: "network",
    unit: "round trips/s",
    line: ({ host }) => `echo ${host} 2000`,
  },
];

/** Of a unit: one of these is so many bytes or operations. */
export const PER_UNIT: Readonly<Record<Task["unit"], number>> = {
  "MB/s": 1e6,
  "KB/s": 1e3,
  "operations/s": 1,
  "round trips/s": 1,
};
