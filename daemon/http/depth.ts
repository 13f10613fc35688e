// JSON that is nested deeper than any shape here would overflow the stack of what walks it.
import { VmError } from "../../api-schema/index.js";

const MAX_DEPTH = 32;

const isObject = (value: unknown): value is object => typeof value === "object" && value !== null;

/** Throws REQUEST_INVALID; walks level by level, without recursion. */
export function refuseDeep(value: unknown, what: string): void {
  let level: object[] = [value].filter(isObject);
  for (let depth = 1; level.length > 0; depth++) {
    if (depth > MAX_DEPTH)
      throw new VmError("REQUEST_INVALID", [what, `is nested deeper than ${MAX_DEPTH} levels`]);
    level = level.flatMap((one) => Object.values(one).filter(isObject));
  }
}
