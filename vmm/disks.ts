// The disks of a definition: opened, checked and locked before the VM is made, so that a definition
// that cannot work changes nothing. Whatever the device, it gets a geometry and, once there is a
// machine, a BlockBackend.
import { ahciPorts, mediumSource } from "../api-schema/ahci.js";
import type { PciDevice } from "../api-schema/definition.js";
import type { DiskSource } from "../api-schema/disk.js";
import { reasonOf, VmError } from "../api-schema/errors.js";
import type { BlockBackend } from "../devices/block/backend.js";
import { CountedBackend } from "../devices/block/counted.js";
import { openNbd } from "./disks/nbd.js";
import { openQcow2 } from "./disks/qcow2.js";
import { openRaw } from "./disks/raw.js";
import { openScratch } from "./disks/scratch.js";
import { type OpenDisk, unusable } from "./disks/types.js";
import type { HostFiles } from "./host-files.js";

/** Throws VmError IMAGE_UNUSABLE or IMAGE_LOCKED, with nothing left open. */
export async function openDisk(source: DiskSource, files: HostFiles): Promise<OpenDisk> {
  try {
    return await openFormat(source, files);
  } catch (error) {
    throw error instanceof VmError ? error : unusable(source.path, reasonOf(error), error);
  }
}

/** What the disk on one port of a device is known by; most devices have one, port 0. */
export const diskKey = (slot: string, port = 0): string => (port === 0 ? slot : `${slot}-${port}`);

async function openFormat(source: DiskSource, files: HostFiles): Promise<OpenDisk> {
  const { format = "raw", backing, scratch, ...rest } = source;
  if (scratch !== undefined) {
    if (source.readOnly) throw unusable(source.path, "a disk with scratch is not readOnly");
    const base = { ...source, readOnly: true };
    delete base.scratch;
    return openScratch(scratch, await openFormat(base, files), files);
  }
  if (format !== "nbd" && rest.export !== undefined)
    throw unusable(source.path, "only nbd has an export");
  if (backing !== undefined && format !== "qcow2")
    throw unusable(source.path, "only a qcow2 image lies over another one");
  if (format === "nbd") return openNbd(source);
  return format === "qcow2" ? openQcow2(source, files) : openRaw(source, files);
}

/** The disks of a device, by their ports. */
export function sourcesOf(device: PciDevice): readonly (DiskSource | undefined)[] {
  switch (device.type) {
    case "ahci":
    case "ahci-hd":
    case "ahci-cd":
      return ahciPorts(device).map((port) => (port.type === "cd" ? mediumSource(port) : port));
    case "virtio-blk":
      return [device];
    default:
      return [];
  }
}

/** The disks of one definition, by diskKey(), until the devices have them. */
export class OpenDisks {
  readonly #disks = new Map<string, OpenDisk>();
  readonly #counted = new Map<string, CountedBackend>();

  /** Throws VmError, with nothing left open. */
  static async open(devices: readonly PciDevice[], files: HostFiles): Promise<OpenDisks> {
    const all = new OpenDisks();
    try {
      for (const device of devices)
        for (const [port, source] of sourcesOf(device).entries())
          if (source) all.#disks.set(diskKey(device.slot, port), await openDisk(source, files));
    } catch (error) {
      all.close();
      throw error;
    }
    return all;
  }

  /** The caller's from here on. */
  take(key: string): OpenDisk {
    const disk = this.#disks.get(key);
    if (disk === undefined) throw new Error(`no disk is open for ${key}`);
    this.#disks.delete(key);
    return { ...disk, backend: (host) => this.#count(key, disk.backend(host)) };
  }

  /** What guests asked of those that were taken, by `disk-KEY`. */
  counts(): Record<string, Record<string, number>> {
    const all = [...this.#counted].map(([key, { counts }]) => [`disk-${key}`, { ...counts }]);
    return Object.fromEntries(all) as Record<string, Record<string, number>>;
  }

  #count(key: string, backend: BlockBackend): BlockBackend {
    const counted = new CountedBackend(backend);
    this.#counted.set(key, counted);
    return counted;
  }

  /** Those that nobody took. */
  close(): void {
    for (const disk of this.#disks.values()) disk.close();
    this.#disks.clear();
  }
}
