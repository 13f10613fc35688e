// What stands behind a disk: bytes by offset. Requests may be many at once and end in any order; a
// device that needs an order waits.

/** 0, or the errno of what failed. */
export type BlockDone = (errno: number) => void;

export interface BlockGeometry {
  /** Bytes, a multiple of the logical sector. */
  readonly size: number;
  /** Bytes: what the guest may address, and what the medium writes at once. */
  readonly logicalSector: number;
  readonly physicalSector: number;
  readonly readOnly: boolean;
}

/** `pieces`: address, length, address, length … of guest RAM, `length` bytes in all. */
export interface BlockBackend {
  readonly geometry: BlockGeometry;
  read(offset: number, length: number, pieces: readonly number[], done: BlockDone): void;
  write(offset: number, length: number, pieces: readonly number[], done: BlockDone): void;
  /** What was done before is on the medium. */
  flush(done: BlockDone): void;
  /** The range is not needed any more: a hint. */
  discard(offset: number, length: number, done: BlockDone): void;
  /** The range reads as zeros; with `unmap` it may lose its room on the host. */
  writeZeroes(offset: number, length: number, unmap: boolean, done: BlockDone): void;
  /** Nothing touches guest RAM afterwards, and no `done` of before is called. */
  cancel(): void;
  /** Resolves when nothing is under way but what waits for room on the host. */
  idle(): Promise<void>;
  close(): void;
}

/** Options of an image in its device's definition and in bhyve's `-s`. */
export const MIN_SECTOR = 512;

/** Why a geometry is none; undefined where it is good. */
export function geometryFault({
  size,
  logicalSector,
  physicalSector,
}: Omit<BlockGeometry, "readOnly">): string | undefined {
  const power = (value: number): boolean => Number.isInteger(Math.log2(value));
  if (!power(logicalSector) || !power(physicalSector) || logicalSector < MIN_SECTOR)
    return `the sector sizes ${logicalSector}/${physicalSector} are not powers of two from 512 on`;
  if (physicalSector < logicalSector)
    return `the physical sector (${physicalSector}) is smaller than the logical one (${logicalSector})`;
  if (size === 0) return "it is empty";
  return size % logicalSector === 0
    ? undefined
    : `its size of ${size} bytes is no multiple of the sector size ${logicalSector}`;
}
