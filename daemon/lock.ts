// One daemon a state folder: a lock on a file, held while the process lives, with its pid inside
// for the message that the second one gets.
import { ftruncateSync, openSync, readFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { VmError } from "../api-schema/index.js";
import { host } from "../native/host.js";

/** Throws STATE_DIRECTORY_LOCKED, naming who holds it. The lock ends with the process. */
export function lockStateDir(stateDir: string): void {
  const path = join(stateDir, "lock");
  const fd = openSync(path, "a+", 0o600); // close-on-exec, as all of Node's descriptors
  if (!host().lockFile(fd))
    throw new VmError("STATE_DIRECTORY_LOCKED", [readFileSync(path, "utf8").trim(), stateDir]);
  ftruncateSync(fd, 0);
  writeSync(fd, `${process.pid}\n`);
}
