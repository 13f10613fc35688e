// Raw images and block devices of the host.
import { closeSync } from "node:fs";
import type { DiskSource } from "../../api-schema/disk.js";
import { RawBackend } from "../../devices/block/raw.js";
import { openImageFile, readAt } from "./file.js";
import { geometryOf, type LockFile, type OpenDisk, unusable } from "./types.js";

const QCOW_MAGIC = "QFI\xfb";

/** Throws VmError IMAGE_UNUSABLE or IMAGE_LOCKED. */
export function openRaw(source: DiskSource, lock: LockFile): OpenDisk {
  const { path, format } = source;
  const { fd, size, readOnly } = openImageFile(path, source, lock);
  try {
    const geometry = geometryOf(source, size, readOnly);
    const looksLike = readAt(fd, 0, QCOW_MAGIC.length).toString("latin1");
    if (format === undefined && looksLike === QCOW_MAGIC)
      throw unusable(path, "it is a qcow2 image; format says whether it is to be read as one");
    return {
      geometry,
      backend: ({ machine, onStall }) =>
        new RawBackend({ file: machine.io.file(fd), geometry, clock: machine.clock, onStall }),
      close: () => closeSync(fd),
    };
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}
