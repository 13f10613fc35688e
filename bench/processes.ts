// What a process has cost so far, from proc(5).
import { readdirSync, readFileSync } from "node:fs";

const TICKS_PER_SECOND = 100; // USER_HZ
const KIB = 1024;

const read = (path: string): string => {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return ""; // it ended meanwhile
  }
};

/**
 * Seconds of CPU of all threads, user and system. The scheduler's own account of each thread is exact;
 * the process's has ticks of 10 ms, but knows of threads that have ended.
 */
export function cpuSeconds(pid: number): number {
  const fields = read(`/proc/${pid}/stat`).split(") ")[1]?.split(" ") ?? [];
  const ticks = (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
  const nanoseconds = readdirSync(`/proc/${pid}/task`)
    .map((thread) => Number(read(`/proc/${pid}/task/${thread}/schedstat`).split(" ")[0]))
    .reduce((sum, value) => sum + value, 0);
  const exact = nanoseconds / 1e9;
  return Math.abs(exact - ticks) < 0.03 ? exact : Math.max(exact, ticks);
}

export interface Mapping {
  readonly name: string;
  readonly bytes: number;
  /** Private_Clean and Private_Dirty. */
  readonly privateBytes: number;
  /** A file's pages that are mapped twice count half in each place, and as private in none. */
  readonly proportionalBytes: number;
}

export function mappings(pid: number): Mapping[] {
  return read(`/proc/${pid}/smaps`)
    .split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m)
    .filter((text) => text !== "")
    .map((text) => {
      const kib = (field: string): number =>
        Number(new RegExp(`^${field}: +([0-9]+) kB`, "m").exec(text)?.[1] ?? 0);
      return {
        name: /^\S+ \S+ \S+ \S+ \S+ *(.*)$/m.exec(text)?.[1] ?? "",
        bytes: kib("Size") * KIB,
        privateBytes: (kib("Private_Clean") + kib("Private_Dirty")) * KIB,
        proportionalBytes: kib("Pss") * KIB,
      };
    });
}
