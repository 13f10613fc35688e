// Which files of the host a definition may name. Where folders are configured (--path), all paths
// lie beneath one of them, and no link on the way leads out; where none are, clients of the Unix
// socket may name what the daemon's user may open, and remote ones nothing.
import { closeSync, constants, openSync } from "node:fs";
import { dirname, isAbsolute, relative, resolve } from "node:path";
import type { TSchema } from "@sinclair/typebox";
import { hostPathsIn, type NamedPath } from "../api-schema/host-paths.js";
import { type FieldProblem, InvalidRequest, reasonOf, VmError } from "../api-schema/index.js";
import { host } from "../native/host.js";

/** Names a file without opening it: O_PATH of Linux (<asm-generic/fcntl.h>), O_EVTONLY of macOS. */
const LOOK = process.platform === "darwin" ? 0x8000 : 0o10000000;

/** A disk: nothing else may be an image, a serial port's log, say. */
const DISK = /^\/devices\/[0-9]+\/path$/;

const LEADS_OUT: ReadonlySet<unknown> = new Set(["EXDEV", "ELOOP"]);
const NOT_THERE: ReadonlySet<unknown> = new Set(["ENOENT", "ENOTDIR"]);

export class PathRules {
  /** Absolute; empty: local clients may name what they like. */
  readonly folders: readonly string[];

  /** Where the daemon keeps disk images, which every client may use. */
  readonly #images: string | undefined;

  constructor(folders: readonly string[] = [], images?: string) {
    this.#images = images;
    this.folders = folders.map((folder) => resolve(folder));
  }

  /** Where all that may be opened lies, the daemon's own images besides; none: anywhere. */
  get openedIn(): readonly string[] {
    if (this.folders.length === 0 || this.#images === undefined) return this.folders;
    return [...this.folders, this.#images];
  }

  /** open(2) of what check() has let through, through no link that leads out; throws Node's errors. */
  open(path: string, flags: number, mode = 0): number {
    const folder = this.openedIn.find((one) => isWithin(one, path));
    if (folder === undefined) return openSync(path, flags, mode);
    const fd = openSync(folder, constants.O_RDONLY | constants.O_DIRECTORY);
    try {
      return host().openBeneath(fd, inside(folder, path), flags, mode);
    } finally {
      closeSync(fd);
    }
  }

  /** Throws InvalidRequest with every path of `value` that may not be named. */
  check(schema: TSchema, value: unknown, { remote, known = [] }: PathCheck): void {
    const problems = this.problems(schema, value, { remote, known });
    const [first] = problems;
    if (first === undefined) return;
    throw new InvalidRequest(problems, first.code === undefined ? undefined : first);
  }

  /** `known`: paths that were there before, and are none of this client's doing. */
  problems(
    schema: TSchema,
    value: unknown,
    { remote, known = [] }: PathCheck,
  ): (FieldProblem & { readonly error?: VmError })[] {
    return hostPathsIn(schema, value).flatMap((named) => {
      if (known.includes(named.path)) return [];
      const error = this.#problem(named, remote);
      const where = { in: "body", pointer: `#${named.pointer}` };
      if (error === undefined) return [];
      if (typeof error === "string") return [{ ...where, detail: error }];
      return [{ ...where, detail: error.message, code: error.code, error }];
    });
  }

  #problem({ path, pointer }: NamedPath, remote: boolean): VmError | string | undefined {
    if (this.#images !== undefined && DISK.test(pointer) && dirname(path) === this.#images)
      return undefined;
    if (!isAbsolute(path))
      return `${path} is not an absolute path; the daemon has no current folder`;
    if (this.folders.length === 0)
      return remote
        ? new VmError("PATH_OUTSIDE", [path, "none is configured (--path)"])
        : undefined;
    const folder = this.folders.find((one) => isWithin(one, path));
    if (folder === undefined) return new VmError("PATH_OUTSIDE", [path, this.folders.join(", ")]);
    return leavesBy(folder, path);
  }
}

export interface PathCheck {
  readonly remote: boolean;
  readonly known?: readonly string[];
}

const inside = (folder: string, path: string): string => relative(folder, resolve(path));

const isWithin = (folder: string, path: string): boolean => {
  const rest = inside(folder, path);
  return rest !== "" && rest !== ".." && !rest.startsWith("../");
};

/** The file, or where it is yet to be made the nearest folder that is there, must lie beneath. */
function leavesBy(folder: string, path: string): VmError | undefined {
  let fd: number;
  try {
    fd = openSync(folder, constants.O_RDONLY | constants.O_DIRECTORY);
  } catch (error) {
    return new VmError("PATH_OUTSIDE", [path, `${folder}: ${reasonOf(error)}`]);
  }
  try {
    for (let rest = inside(folder, path); rest !== "."; rest = dirname(rest)) {
      const code = look(fd, rest);
      if (LEADS_OUT.has(code)) return new VmError("PATH_LEADS_OUT", [path, folder]);
      if (!NOT_THERE.has(code)) return undefined; // there, or not to be seen: then nor to be opened
    }
    return undefined;
  } finally {
    closeSync(fd);
  }
}

/** The error's code; undefined where it lies beneath the folder. */
function look(folder: number, path: string): unknown {
  try {
    closeSync(host().openBeneath(folder, path, LOOK, 0));
    return undefined;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code;
  }
}
