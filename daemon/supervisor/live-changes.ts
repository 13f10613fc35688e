// What of a definition may change while the VM runs: what no VM process looks at.
import { isDeepStrictEqual } from "node:util";
import type { VmDefinition } from "../../api-schema/index.js";

const LIVE: ReadonlySet<string> = new Set([
  "labels",
  "restart",
  "autostart",
  "readiness",
  "protected",
  "shutdownTimeout",
] satisfies (keyof VmDefinition)[]);

/** The fields that differ and need the VM to be off. */
export function hardChanges(before: VmDefinition, after: VmDefinition): string[] {
  const fields = new Set([...Object.keys(before), ...Object.keys(after)]) as Set<
    keyof VmDefinition
  >;
  return [...fields]
    .sort()
    .filter((field) => !LIVE.has(field) && !isDeepStrictEqual(before[field], after[field]));
}
