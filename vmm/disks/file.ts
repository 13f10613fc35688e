// An image's file or block device on the host: opened and locked.
import {
  closeSync,
  constants,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readFileSync,
  readSync,
  writeSync,
} from "node:fs";
import { reasonOf, VmError } from "../../api-schema/errors.js";
import type { ImageBytes } from "../../devices/block/qcow2/scan.js";
import { type LockFile, unusable } from "./types.js";

const SECTOR = 512;

export interface ImageFile {
  readonly path: string;
  /** The caller's to close. */
  readonly fd: number;
  /** Bytes. */
  readonly size: number;
  readonly readOnly: boolean;
  readonly sync: boolean;
  readonly isDevice: boolean;
}

export interface ImageFlags {
  readonly readOnly?: boolean | undefined;
  readonly sync?: boolean | undefined;
}

/**
 * As the original: an image that may not be written is a read-only disk. Throws VmError
 * IMAGE_UNUSABLE or IMAGE_LOCKED.
 */
export function openImageFile(path: string, flags: ImageFlags, lock: LockFile): ImageFile {
  const { fd, readOnly } = open(path, flags);
  try {
    const size = sizeOf(path, fd);
    if (!lock(fd, readOnly)) throw new VmError("IMAGE_LOCKED", [path]);
    const { sync = false } = flags;
    return { path, fd, size, readOnly, sync, isDevice: fstatSync(fd).isBlockDevice() };
  } catch (error) {
    closeSync(fd);
    throw error instanceof VmError ? error : unusable(path, reasonOf(error), error);
  }
}

function open(path: string, { readOnly = false, sync = false }: ImageFlags) {
  const synchronous = sync ? constants.O_SYNC : 0;
  try {
    const flags = readOnly ? constants.O_RDONLY : constants.O_RDWR;
    return { fd: openSync(path, flags | synchronous | constants.O_NONBLOCK), readOnly };
  } catch (error) {
    const refused = ["EACCES", "EPERM", "EROFS"].includes((error as { code?: string }).code ?? "");
    if (readOnly || !refused) throw unusable(path, reasonOf(error), error);
  }
  return open(path, { readOnly: true, sync });
}

function sizeOf(path: string, fd: number): number {
  const stats = fstatSync(fd);
  if (stats.isFile()) return stats.size;
  if (!stats.isBlockDevice()) throw unusable(path, "it is neither a file nor a block device");
  const [major, minor] = [
    (stats.rdev >> 8) & 0xfff,
    (stats.rdev & 0xff) | ((stats.rdev >> 12) & ~0xff),
  ];
  return Number(readFileSync(`/sys/dev/block/${major}:${minor}/size`, "utf8")) * SECTOR;
}

/** The same open image once more, for somebody else to close; the lock stays with the first. */
export function reopen({ fd, readOnly, sync }: ImageFile, direct = false): number {
  const way = readOnly ? constants.O_RDONLY : constants.O_RDWR;
  // Not on macOS, where the descriptor is told so afterwards.
  const past = direct ? (constants.O_DIRECT ?? 0) : 0;
  return openSync(`/dev/fd/${fd}`, way | past | (sync ? constants.O_SYNC : 0));
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
