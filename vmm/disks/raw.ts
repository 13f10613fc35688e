// Raw images and block devices of the host.
import { closeSync } from "node:fs";
import type { DiskSource } from "../../api-schema/disk.js";
import type { BlockGeometry } from "../../devices/block/backend.js";
import { RawBackend } from "../../devices/block/raw.js";
import { host } from "../../native/host.js";
import type { HostFiles } from "../host-files.js";
import { type ImageFile, openImageFile, readAt, reopenDirect } from "./file.js";
import { geometryOf, type OpenDisk, unusable } from "./types.js";

const QCOW_MAGIC = "QFI\xfb";

/** Throws VmError IMAGE_UNUSABLE or IMAGE_LOCKED. */
export function openRaw(source: DiskSource, files: HostFiles): OpenDisk {
  const { path, format, direct = false } = source;
  const file = openImageFile(path, source, files);
  const { fd, size, readOnly, device } = file;
  try {
    const geometry = geometryOf(source, size, readOnly, device);
    const looksLike = readAt(fd, 0, QCOW_MAGIC.length).toString("latin1");
    if (format === undefined && looksLike === QCOW_MAGIC)
      throw unusable(path, "it is a qcow2 image; format says whether it is to be read as one");
    if (direct) return openDirect(file, geometry);
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

/** Past the page cache: the guest's sectors must be what the file takes. */
function openDirect(lockedFile: ImageFile, geometry: BlockGeometry): OpenDisk {
  const { path, fd: lockFd } = lockedFile;
  const fd = reopenDirect(lockedFile);
  const alignment = host().directAlignment(fd);
  if (alignment > geometry.logicalSector) {
    closeSync(fd);
    const needed = `a logicalSector of ${alignment}`;
    throw unusable(
      path,
      alignment > 65536 ? "it cannot be read past the page cache" : `direct needs ${needed}`,
    );
  }
  return {
    geometry,
    backend: ({ machine, onStall }) => {
      const file = machine.io.file(fd, Math.max(alignment, 1));
      return new RawBackend({
        file,
        geometry,
        clock: machine.clock,
        onStall,
        release: () => closeSync(lockFd),
      });
    },
    close: () => {
      closeSync(fd);
      closeSync(lockFd);
    },
  };
}
