// The lock of a runtime folder: an flock that lives as long as its process, whatever ends it. The
// pid inside is for people and error messages; the lock itself is the truth.
import { closeSync, ftruncateSync, openSync, readFileSync, writeSync } from "node:fs";
import { reasonOf, VmError } from "../../api-schema/errors.js";

/** Exclusive and at once; false where another open file holds it. */
export type TryLock = (fd: number) => boolean;

/** Held until the process ends. Node opens files close-on-exec: no child inherits it. */
export function takeLock(path: string, tryLock: TryLock): void {
  const fd = open(path);
  if (!tryLock(fd)) {
    closeSync(fd);
    throw new VmError("RUNTIME_LOCKED", [readHolder(path), path]);
  }
  ftruncateSync(fd, 0);
  writeSync(fd, String(process.pid), 0);
}

function open(path: string): number {
  try {
    return openSync(path, "a+", 0o600);
  } catch (error) {
    throw new VmError("LAUNCH_INVALID", [path, reasonOf(error)], { cause: error });
  }
}

const readHolder = (path: string): string => {
  const text = readFileSync(path, "latin1").slice(0, 20).trim();
  return /^[0-9]+$/.test(text) ? text : "unknown";
};
