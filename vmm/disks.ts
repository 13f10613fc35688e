// Disk images on the host: opened, checked and locked before the VM is made, so that a definition
// that cannot work changes nothing.
import {
  closeSync,
  constants,
  fstatSync,
  openSync,
  readFileSync,
  readSync,
  type Stats,
} from "node:fs";
import type { PciDevice, VirtioBlkDevice } from "../api-schema/definition.js";
import { reasonOf, VmError } from "../api-schema/errors.js";
import { type BlockGeometry, geometryFault } from "../devices/block/backend.js";

/** A lock that does not wait; `shared` ones exclude only the others. False: somebody holds it. */
export type LockFile = (fd: number, shared: boolean) => boolean;

export interface OpenDisk {
  readonly fd: number;
  readonly geometry: BlockGeometry;
}

const QCOW_MAGIC = "QFI\xfb";
const SECTOR = 512;

/** The descriptor is the caller's to close. Throws VmError IMAGE_UNUSABLE or IMAGE_LOCKED. */
export function openDisk(device: VirtioBlkDevice, lock: LockFile): OpenDisk {
  const { path } = device;
  const { fd, readOnly } = openImage(device);
  try {
    const geometry = { ...geometryOf(device, fd), readOnly };
    if (!lock(fd, readOnly)) throw new VmError("IMAGE_LOCKED", [path]);
    return { fd, geometry };
  } catch (error) {
    closeSync(fd);
    if (error instanceof VmError) throw error;
    throw unusable(path, reasonOf(error), error);
  }
}

const unusable = (path: string, why: string, cause?: unknown): VmError =>
  new VmError("IMAGE_UNUSABLE", [path, why], { cause });

/** As the original: an image that may not be written is a read-only disk. */
function openImage({ path, readOnly = false, sync = false }: VirtioBlkDevice): {
  fd: number;
  readOnly: boolean;
} {
  const synchronous = sync ? constants.O_SYNC : 0;
  try {
    const flags = readOnly ? constants.O_RDONLY : constants.O_RDWR;
    return { fd: openSync(path, flags | synchronous), readOnly };
  } catch (error) {
    const refused = ["EACCES", "EPERM", "EROFS"].includes((error as { code?: string }).code ?? "");
    if (readOnly || !refused) throw unusable(path, reasonOf(error), error);
  }
  try {
    return { fd: openSync(path, constants.O_RDONLY), readOnly: true };
  } catch (error) {
    throw unusable(path, reasonOf(error), error);
  }
}

function geometryOf(device: VirtioBlkDevice, fd: number): Omit<BlockGeometry, "readOnly"> {
  const { path, logicalSector = 512, physicalSector = logicalSector } = device;
  const magic = Buffer.alloc(QCOW_MAGIC.length);
  const size = sizeOf(path, fstatSync(fd));
  readSync(fd, magic, 0, magic.length, 0);
  if (magic.toString("latin1") === QCOW_MAGIC)
    throw unusable(path, "it is a qcow2 image, not a raw one");
  const geometry = { size, logicalSector, physicalSector };
  const fault = geometryFault(geometry);
  if (fault !== undefined) throw unusable(path, fault);
  return geometry;
}

function sizeOf(path: string, stats: Stats): number {
  if (stats.isFile()) return stats.size;
  if (!stats.isBlockDevice()) throw unusable(path, "it is neither a file nor a block device");
  const [major, minor] = [stats.rdev >> 8, stats.rdev & 0xff];
  return Number(readFileSync(`/sys/dev/block/${major}:${minor}/size`, "utf8")) * SECTOR;
}

/** The disks of one definition, by slot, until the devices have them. */
export class OpenDisks {
  readonly #disks = new Map<string, OpenDisk>();

  /** Throws VmError, with nothing left open. */
  constructor(devices: readonly PciDevice[], lock: LockFile) {
    try {
      for (const device of devices)
        if (device.type === "virtio-blk") this.#disks.set(device.slot, openDisk(device, lock));
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** The caller's from here on. */
  take({ slot }: VirtioBlkDevice): OpenDisk {
    const disk = this.#disks.get(slot);
    if (disk === undefined) throw new Error(`no disk is open for slot ${slot}`);
    this.#disks.delete(slot);
    return disk;
  }

  /** Those that nobody took. */
  close(): void {
    for (const { fd } of this.#disks.values()) closeSync(fd);
    this.#disks.clear();
  }
}
