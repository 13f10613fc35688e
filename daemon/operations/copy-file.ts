// A copy of a file under a name that nobody has yet: by reference where the file system can, else
// in pieces, with holes where the original is zero. It appears whole or not at all.
import { constants } from "node:fs";
import { copyFile as copyByReference, type FileHandle, link, open, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { reasonOf, VmError } from "../../api-schema/index.js";

const PIECE = 4 * 2 ** 20;

export interface CopyOptions {
  /** The name of the copy until it is whole, beside it. */
  readonly unfinished: string;
  readonly signal: AbortSignal;
  /** Bytes so far. */
  progress(bytes: number): void;
}

/** Throws FILE_EXISTS or FILE_COPY_FAILED, and the signal's own reason; leaves nothing then. */
export async function copyFile(from: string, to: string, options: CopyOptions): Promise<void> {
  const { unfinished, signal } = options;
  try {
    await rm(unfinished, { force: true }); // of an earlier daemon that was ended
    if (!(await byReference(from, unfinished))) await inPieces(from, options);
    await onDisk(unfinished);
    signal.throwIfAborted();
    await link(unfinished, to);
    await rm(unfinished);
    await onDisk(dirname(to));
  } catch (error) {
    await rm(unfinished, { force: true }).catch(() => {});
    signal.throwIfAborted();
    if ((error as NodeJS.ErrnoException).code === "EEXIST") throw new VmError("FILE_EXISTS", [to]);
    throw new VmError("FILE_COPY_FAILED", [from, to, reasonOf(error)], { cause: error });
  }
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

async function inPieces(
  from: string,
  { unfinished, signal, progress }: CopyOptions,
): Promise<void> {
  const source = await open(from, "r");
  try {
    const target = await open(unfinished, "wx", 0o600);
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
  } finally {
    await source.close();
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
