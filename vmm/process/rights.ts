// What a VM process gives up when its machine stands and before the guest's first instruction. All
// that the machine is made of has been opened by then; what is opened later comes as descriptors, and
// what is written later lies in a folder that is held open here.
import { openSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import type { Account } from "../../api-schema/vm-process.js";

/**
 * For good, all threads: the C library does it on each of them (nptl(7), "NPTL and the kernel"), and
 * the capabilities go with the user (capabilities(7), "Effect of user ID changes on capabilities").
 */
export function become({ uid, gid }: Account): void {
  process.setgroups?.([]);
  process.setgid?.(gid);
  process.setuid?.(uid);
}

/** The same path by a name that goes on leading there when the folders above are closed to us. */
export function heldOpen(path: string): string {
  const folder = openSync(dirname(path), "r");
  return join(`/proc/self/fd/${folder}`, basename(path));
}
