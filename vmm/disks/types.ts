// What a disk of a definition is between being opened and being a device's.
import type { DiskSource } from "../../api-schema/disk.js";
import { VmError } from "../../api-schema/errors.js";
import {
  type BlockBackend,
  type BlockGeometry,
  geometryFault,
} from "../../devices/block/backend.js";
import type { Machine } from "../../native/types.js";

/** What a backend needs of the machine whose guest it serves. */
export interface DiskHost {
  readonly machine: Pick<Machine, "io" | "memory" | "clock">;
  /** Told when writes begin to wait for room on the host, and when none waits any more. */
  readonly onStall: (stalled: boolean) => void;
  log(text: string): void;
}

/** Opened, found good and locked; nothing of it has been changed yet. */
export interface OpenDisk {
  readonly geometry: BlockGeometry;
  /** Once at most; what was opened is the backend's from then on. */
  backend(host: DiskHost): BlockBackend;
  /** Instead of backend(). */
  close(): void;
}

export const unusable = (path: string, why: string, cause?: unknown): VmError =>
  new VmError("IMAGE_UNUSABLE", [path, why], { cause });

/** A disk's own sectors, where it has some. */
export interface Sectors {
  readonly logical: number;
  readonly physical: number;
}
const SMALLEST: Sectors = { logical: 512, physical: 512 };

/** Of `size` bytes with the definition's sectors, else its own; throws VmError IMAGE_UNUSABLE. */
export function geometryOf(
  source: DiskSource,
  size: number,
  readOnly: boolean,
  own: Sectors = SMALLEST,
): BlockGeometry {
  const { path, logicalSector = own.logical } = source;
  const physicalSector = source.physicalSector ?? Math.max(logicalSector, own.physical);
  const fault = geometryFault({ size, logicalSector, physicalSector });
  if (fault !== undefined) throw unusable(path, fault);
  return { size, logicalSector, physicalSector, readOnly };
}
