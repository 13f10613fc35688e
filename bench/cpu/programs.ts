// The programs of bench/cpu/guest, in the groups that the bars are about.

export interface Group {
  readonly name: string;
  readonly programs: readonly string[];
  /** Speed as a multiple of QEMU's: the geometric mean, and of each program. */
  readonly mean?: number;
  readonly each: number;
  /** Programs with a bar of their own. */
  readonly exceptions?: Readonly<Record<string, number>>;
  /** Time as a multiple of native time: the geometric mean. */
  readonly native?: number;
}

export const GROUPS: readonly Group[] = [
  {
    name: "integer",
    programs: [
      ...["sieve", "sha256", "crc", "quicksort", "recursion", "bytecode", "indirect", "inflate"],
      ...["memcpy", "rep-movs", "rep-stos", "strings"],
    ],
    mean: 2.5,
    each: 1,
    native: 3,
  },
  {
    name: "floating point",
    programs: ["nbody", "matrix", "mandelbrot", "fft", "x87"],
    mean: 8,
    each: 4,
    exceptions: { x87: 1.5 },
    native: 4,
  },
  {
    name: "system",
    programs: ["getpid", "fork-exec", "page-faults", "mprotect", "signals", "pipe"],
    mean: 1.3,
    each: 1,
  },
  { name: "fresh code", programs: ["self-modifying", "run-once"], each: 5 },
];

/**
 * The two programs of the scaling measurement: one busy processor, and two. They are short and run
 * `often` times as often as the others: a host that is busy in between spoils some rounds, not the
 * median.
 */
export const SCALING = { one: "one-busy", two: "two-busy", often: 4, least: 0.9 } as const;

/** CPU seconds of a boot to user space as a multiple of QEMU's, by processors. */
export const BOOTS: readonly { readonly cpus: number; readonly most: number }[] = [
  { cpus: 1, most: 0.7 },
  { cpus: 2, most: 0.8 },
];

export const MEMORY_MOST = 1;
