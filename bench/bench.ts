// What a bench is, for bench/main.ts: a name, and a function that measures and reports. A new one is
// a file that exports a Bench and a line in main.ts.
import type { Row } from "./table.js";

export interface BenchOptions {
  /** How often each thing is measured. */
  readonly count: number;
  /** Which of the bench's things to measure; empty: all. */
  readonly only: readonly string[];
  /** For people who wait: one line per step, on the error output. */
  readonly progress: (text: string) => void;
}

export interface Section {
  readonly title: string;
  readonly header: Row;
  readonly rows: readonly Row[];
}

/** A demand on one figure. */
export interface Bar {
  readonly what: string;
  readonly value: number;
  readonly least?: number;
  readonly most?: number;
}

export interface BenchReport {
  readonly sections: readonly Section[];
  readonly bars: readonly Bar[];
  /** Everything measured, for `--json`. */
  readonly data: unknown;
}

export interface Bench {
  readonly name: string;
  readonly summary: string;
  run(options: BenchOptions): Promise<BenchReport>;
}

export const holds = ({ value, least = -Infinity, most = Infinity }: Bar): boolean =>
  value >= least && value <= most;
