// A copy of a file: by reference where the file system can, else in pieces, with holes where the
// original is zero. It is written under a name of its own and gets the name it was asked for when it
// is whole: nobody sees half a copy, and a file that has the name already is left alone. While it is
// copied the original is locked as VM processes lock their disks: who writes to it, or would, is
// refused, or refuses the copy.
import { constants, statSync } from "node:fs";
import { copyFile as copyByReference, type FileHandle, link, open, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { reasonOf, VmError } from "../../api-schema/index.js";
import { host } from "../../native/host.js";

const PIECE = 4 * 2 ** 20;

export interface CopyOptions {
  readonly signal: AbortSignal;
  /** Bytes so far. */
  progress(bytes: number): void;
}

/**
 * Writes `to`, a name that is the caller's alone: what an earlier daemon left there is replaced. On the
 * disk when it resolves. Throws IMAGE_LOCKED, FILE_COPY_FAILED, and the signal's own reason; leaves
 * nothing then.
 */
export async function writeCopy(from: string, to: string, options: CopyOptions): Promise<void> {
  const { signal } = options;
  try {
    await rm(to, { force: true });
    await copyLocked(from, to, options);
    await onDisk(to);
    signal.throwIfAborted();
  } catch (error) {
    await rm(to, { force: true }).catch(() => {});
    signal.throwIfAborted();
    if (error instanceof VmError) throw error;
    throw new VmError("FILE_COPY_FAILED", [from, to, reasonOf(error)], { cause: error });
  }
}

/** Gives the file `written` a second name, on the disk when it resolves. Throws FILE_EXISTS. */
export async function alsoNamed(written: string, name: string): Promise<void> {
  try {
    await link(written, name);
    await onDisk(dirname(name));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST")
      throw new VmError("FILE_EXISTS", [name]);
    throw new VmError("FILE_COPY_FAILED", [written, name, reasonOf(error)], { cause: error });
  }
}

/** Whether both names are there and are one file's. */
export function isOneFile(a: string, b: string): boolean {
  const [first, second] = [a, b].map((path) => statSync(path, { throwIfNoEntry: false }));
  if (first === undefined || second === undefined) return false;
  return first.dev === second.dev && first.ino === second.ino;
}

async function byReference(from: string, to: string): Promise<boolean> {
  try {
    await copyByReference(from, to, constants.COPYFILE_FICLONE_FORCE | constants.COPYFILE_EXCL);
    return true;
  } catch {
    await rm(to, { force: true });
    return false; // the file system cannot; what else is wrong shows on the other way
  }
}

async function copyLocked(from: string, to: string, options: CopyOptions): Promise<void> {
  const source = await open(from, "r");
  try {
    if (!host().lockFile(source.fd, true)) throw new VmError("IMAGE_LOCKED", [from]);
    if (!(await byReference(from, to))) await inPieces(source, to, options);
  } finally {
    await source.close();
  }
}

async function inPieces(
  source: FileHandle,
  to: string,
  { signal, progress }: CopyOptions,
): Promise<void> {
  const target = await open(to, "wx", 0o600);
  try {
    const { size } = await source.stat();
    await target.truncate(size);
    for (let at = 0; at < size; at += await copyPiece(source, target, at)) {
      signal.throwIfAborted();
      progress(at);
    }
  } finally {
    await target.close();
  }
}

/** The bytes gone over, never 0. */
async function copyPiece(source: FileHandle, target: FileHandle, at: number): Promise<number> {
  const { bytesRead, buffer } = await source.read(Buffer.alloc(PIECE), 0, PIECE, at);
  if (bytesRead === 0) throw new Error("it became shorter while it was copied");
  const piece = buffer.subarray(0, bytesRead);
  if (!piece.equals(ZEROS.subarray(0, bytesRead))) {
    for (let done = 0; done < bytesRead; )
      done += (await target.write(piece, done, bytesRead - done, at + done)).bytesWritten;
  }
  return bytesRead;
}

const ZEROS = Buffer.alloc(PIECE);

async function onDisk(path: string): Promise<void> {
  const handle = await open(path, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
