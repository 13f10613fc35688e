// An image's file or block device on the host: opened and locked.
import {
  closeSync,
  constants,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readSync,
  statSync,
  writeSync,
} from "node:fs";
import { reasonOf, VmError } from "../../api-schema/errors.js";
import type { ImageBytes } from "../../devices/block/qcow2/scan.js";
import { type BlockDevice, host } from "../../native/host.js";
import type { HostFiles } from "../host-files.js";
import { unusable } from "./types.js";

export interface ImageFile {
  readonly path: string;
  /** The caller's to close. */
  readonly fd: number;
  /** Bytes. */
  readonly size: number;
  readonly readOnly: boolean;
  readonly sync: boolean;
  /** What a block device says of itself; a file has nothing to say. */
  readonly device: BlockDevice | undefined;
}

export interface ImageFlags {
  readonly readOnly?: boolean | undefined;
  readonly sync?: boolean | undefined;
}

/**
 * As the original: an image that may not be written is a read-only disk. Throws VmError
 * IMAGE_UNUSABLE or IMAGE_LOCKED.
 */
export function openImageFile(path: string, flags: ImageFlags, files: HostFiles): ImageFile {
  const { fd, readOnly } = open(path, flags, files);
  try {
    const device = deviceOf(path, fd);
    if (!files.lock(fd, readOnly)) throw new VmError("IMAGE_LOCKED", [path]);
    const { sync = false } = flags;
    return { path, fd, size: device?.size ?? fstatSync(fd).size, readOnly, sync, device };
  } catch (error) {
    closeSync(fd);
    throw error instanceof VmError ? error : unusable(path, reasonOf(error), error);
  }
}

const isDevice = (path: string): boolean =>
  statSync(path, { throwIfNoEntry: false })?.isBlockDevice() ?? false;

function open(
  path: string,
  { readOnly = false, sync = false }: ImageFlags,
  files: HostFiles,
): { fd: number; readOnly: boolean } {
  const synchronous = sync ? constants.O_SYNC : 0;
  const flags = synchronous | constants.O_NONBLOCK;
  try {
    if (readOnly) return { fd: files.open(path, flags | constants.O_RDONLY), readOnly };
    // open(2): a block device that is mounted, or part of another one, is not to be had so.
    const alone = isDevice(path) ? constants.O_EXCL : 0;
    return { fd: files.open(path, flags | alone | constants.O_RDWR), readOnly };
  } catch (error) {
    const { code = "" } = error as { code?: string };
    if (code === "EBUSY") throw busy(path, error, files);
    const refused = ["EACCES", "EPERM", "EROFS"].includes(code);
    if (readOnly || !refused) throw unusable(path, reasonOf(error), error);
  }
  return open(path, { readOnly: true, sync }, files);
}

/** Whose it is: another VM's, or the host's own. */
function busy(path: string, error: unknown, files: HostFiles): VmError {
  const fd = files.open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    if (!files.lock(fd, true)) return new VmError("IMAGE_LOCKED", [path]);
    return unusable(
      path,
      "the host itself uses it: it is mounted, or part of another device",
      error,
    );
  } finally {
    closeSync(fd);
  }
}

function deviceOf(path: string, fd: number): BlockDevice | undefined {
  const stats = fstatSync(fd);
  if (stats.isBlockDevice()) return host().blockDevice(fd);
  if (!stats.isFile()) throw unusable(path, "it is neither a file nor a block device");
  return undefined;
}

/**
 * The same image once more, open past the page cache, for somebody else to close; the lock stays with
 * the first. Not on macOS, where the descriptor is told so afterwards.
 */
export function reopenDirect({ fd, readOnly, sync }: ImageFile): number {
  const way = readOnly ? constants.O_RDONLY : constants.O_RDWR;
  return openSync(`/dev/fd/${fd}`, way | (constants.O_DIRECT ?? 0) | (sync ? constants.O_SYNC : 0));
}

/** A file as the disk formats read and change it before a machine does. */
export const imageBytes = (fd: number): ImageBytes => ({
  size: () => fstatSync(fd).size,
  read: (offset, length) => readAt(fd, offset, length),
  write: (offset, bytes) => writeAt(fd, offset, bytes),
  truncate: (size) => ftruncateSync(fd, size),
  sync: () => fsyncSync(fd),
});

function writeAt(fd: number, at: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length; )
    done += writeSync(fd, bytes, done, bytes.length - done, at + done);
}

/** Fewer where the file ends before. */
export function readAt(fd: number, at: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  let done = 0;
  while (done < length) {
    const count = readSync(fd, bytes, done, length - done, at + done);
    if (count === 0) break;
    done += count;
  }
  return bytes.subarray(0, done);
}
