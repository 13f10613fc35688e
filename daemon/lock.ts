// The daemon's folders: its own alone, and one daemon to each. A lock on a file is held while the
// process lives, with its pid inside for the message that the second one gets.
import { ftruncateSync, mkdirSync, openSync, readFileSync, statSync, writeSync } from "node:fs";
import { join } from "node:path";
import { VmError } from "../api-schema/index.js";
import { host } from "../native/host.js";

const OTHERS_MAY_WRITE = 0o022;

/** Makes the folder where there is none; throws FOLDER_UNSAFE where others could put things in. */
export function ownFolder(path: string): void {
  mkdirSync(path, { recursive: true, mode: 0o700 });
  const { uid, mode } = statSync(path);
  if (uid !== process.getuid?.())
    throw new VmError("FOLDER_UNSAFE", [
      path,
      `it belongs to user ${uid}, not to the daemon's own`,
    ]);
  if ((mode & OTHERS_MAY_WRITE) !== 0)
    throw new VmError("FOLDER_UNSAFE", [path, "others may write to it; chmod go-w would do"]);
}

/** Throws STATE_DIRECTORY_LOCKED, naming who holds it. The lock ends with the process. */
export function lockFolder(folder: string): void {
  const fd = openSync(join(folder, "lock"), "a+", 0o600); // close-on-exec, as all that Node opens
  if (!host().lockFile(fd))
    throw new VmError("STATE_DIRECTORY_LOCKED", [readFileSync(fd, "utf8").trim(), folder]);
  ftruncateSync(fd, 0);
  writeSync(fd, `${process.pid}\n`);
}
