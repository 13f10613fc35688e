// An independent reader of Prometheus' text format, which has no types of its own.
import { createRequire } from "node:module";

export interface ReadFamily {
  readonly name: string;
  readonly type: string;
  readonly help: string;
  readonly metrics: readonly {
    readonly value: string;
    readonly labels?: Readonly<Record<string, string>>;
  }[];
}

/** Throws where the text is not well-formed. */
export const readMetrics = createRequire(import.meta.url)("parse-prometheus-text-format") as (
  text: string,
) => readonly ReadFamily[];
