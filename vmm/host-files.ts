// How the files of a definition are opened. Whoever wrote the definition was let name what lies in
// certain folders; whoever may write to those could put a link there between the look and the
// opening, so that the opening itself must not follow one that leads out.
import { constants, openSync } from "node:fs";
import { relative } from "node:path";
import { host } from "../native/host.js";

/** A lock that does not wait; `shared` ones exclude only the others. False: somebody holds it. */
export type LockFile = (fd: number, shared: boolean) => boolean;

/** open(2): throws Node's errors. The descriptor is the caller's. */
export type OpenFile = (path: string, flags: number, mode?: number) => number;

export interface HostFiles {
  readonly open: OpenFile;
  readonly lock: LockFile;
}

export const namedFiles = (lock: LockFile): HostFiles => ({ open: openSync, lock });

const leadsOut = (path: string): boolean => path === "" || path === ".." || path.startsWith("../");

/** Beneath one of these folders, through no link that leads out of it. */
export function filesBeneath(folders: readonly string[], lock: LockFile): HostFiles {
  const held = new Map<string, number>();
  const fdOf = (folder: string): number => {
    const fd = held.get(folder) ?? openSync(folder, constants.O_RDONLY | constants.O_DIRECTORY);
    held.set(folder, fd);
    return fd;
  };
  const open: OpenFile = (path, flags, mode = 0) => {
    const folder = folders.find((one) => !leadsOut(relative(one, path)));
    if (folder === undefined) throw new Error(`it is in none of ${folders.join(", ")}`);
    return host().openBeneath(fdOf(folder), relative(folder, path), flags, mode);
  };
  return { open, lock };
}

/** One that somebody else has opened for us; it is the first opener's from then on. */
export function givenFile(fd: number, lock: LockFile): HostFiles & { readonly isTaken: boolean } {
  let isTaken = false;
  return {
    get isTaken() {
      return isTaken;
    },
    open: () => {
      if (isTaken) throw new Error("only one file was handed over");
      isTaken = true;
      return fd;
    },
    lock,
  };
}
