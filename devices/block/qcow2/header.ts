// The header of a qcow2 image. QEMU's docs/interop/qcow2.txt, "Header": all numbers big-endian.
import { ImageFault } from "./fault.js";

export const MAGIC = 0x514649fb;

/** Byte offsets. What follows 72 is version 3's. */
export const FIELD = {
  magic: 0,
  version: 4,
  backingOffset: 8,
  backingLength: 16,
  clusterBits: 20,
  size: 24,
  encryption: 32,
  l1Entries: 36,
  l1Offset: 40,
  refcountTableOffset: 48,
  refcountTableClusters: 56,
  snapshots: 60,
  snapshotsOffset: 64,
  incompatible: 72,
  compatible: 80,
  autoclear: 88,
  refcountOrder: 96,
  headerLength: 100,
  compression: 104,
} as const;
export const V2_LENGTH = 72;
export const V3_LENGTH = 104;
/** A whole one, with the compression type and padding to a multiple of 8. */
export const MAX_LENGTH = 112;

export const INCOMPATIBLE = {
  dirty: 1,
  corrupt: 2,
  externalData: 4,
  compression: 8,
  extendedL2: 16,
} as const;
const KNOWN = INCOMPATIBLE.dirty | INCOMPATIBLE.corrupt | INCOMPATIBLE.compression;

export const COMPRESSION = { deflate: 0, zstd: 1 } as const;

/** QEMU's own limits, which every image that it made keeps. */
export const LIMIT = {
  minClusterBits: 9,
  maxClusterBits: 21,
  l1Bytes: 32 * 2 ** 20,
  refcountTableBytes: 8 * 2 ** 20,
  snapshots: 65536,
  snapshotTableBytes: 64 * 2 ** 20,
  backingName: 1023,
} as const;

export interface Header {
  readonly version: 2 | 3;
  readonly clusterBits: number;
  /** Bytes of the disk. */
  readonly size: number;
  readonly l1Entries: number;
  readonly l1Offset: number;
  readonly refcountTableOffset: number;
  readonly refcountTableClusters: number;
  readonly snapshots: number;
  readonly snapshotsOffset: number;
  readonly incompatible: number;
  readonly autoclear: boolean;
  /** Two to the power of it is a refcount's width in bits. */
  readonly refcountOrder: number;
  readonly compression: number;
  /** What the image says that it lies over. */
  readonly backingName: string | undefined;
}

/** A 64-bit field as a number; what no number can be is NaN, which no check lets through. */
export function u64(view: DataView, at: number): number {
  const high = view.getUint32(at);
  return high < 2 ** 21 ? high * 2 ** 32 + view.getUint32(at + 4) : Number.NaN;
}

export function setU64(view: DataView, at: number, value: number): void {
  view.setUint32(at, Math.floor(value / 2 ** 32));
  view.setUint32(at + 4, value % 2 ** 32);
}

export const viewOf = (bytes: Uint8Array): DataView =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** `bytes`: the file's first ones, 64 KiB or all that there are. Throws ImageFault. */
export function parseHeader(bytes: Uint8Array): Header {
  const view = viewOf(bytes);
  if (bytes.length < V2_LENGTH) throw new ImageFault("it is shorter than a qcow2 header");
  if (view.getUint32(FIELD.magic) !== MAGIC) throw new ImageFault("it is no qcow2 image");
  const version = view.getUint32(FIELD.version);
  if (version !== 2 && version !== 3)
    throw new ImageFault(`qcow2 version ${version} is neither 2 nor 3`);
  const features = version === 3 ? parseFeatures(bytes) : V2_FEATURES;
  const header: Header = {
    version,
    clusterBits: view.getUint32(FIELD.clusterBits),
    size: u64(view, FIELD.size),
    l1Entries: view.getUint32(FIELD.l1Entries),
    l1Offset: u64(view, FIELD.l1Offset),
    refcountTableOffset: u64(view, FIELD.refcountTableOffset),
    refcountTableClusters: view.getUint32(FIELD.refcountTableClusters),
    snapshots: view.getUint32(FIELD.snapshots),
    snapshotsOffset: u64(view, FIELD.snapshotsOffset),
    backingName: parseBackingName(bytes),
    ...features,
  };
  if (view.getUint32(FIELD.encryption) !== 0)
    throw new ImageFault("it is encrypted, which is not supported");
  checkSizes(header);
  return header;
}

type Features = Pick<Header, "incompatible" | "autoclear" | "refcountOrder" | "compression">;
const V2_FEATURES: Features = {
  incompatible: 0,
  autoclear: false,
  refcountOrder: 4,
  compression: COMPRESSION.deflate,
};

function parseFeatures(bytes: Uint8Array): Features {
  const view = viewOf(bytes);
  if (bytes.length < V3_LENGTH) throw new ImageFault("it is shorter than a qcow2 header");
  const length = view.getUint32(FIELD.headerLength);
  if (length < V3_LENGTH || length > bytes.length || length % 8 !== 0)
    throw new ImageFault(`its header's length is ${length}`);
  const [high, incompatible] = [view.getUint32(FIELD.incompatible), view.getUint32(76)];
  const refcountOrder = view.getUint32(FIELD.refcountOrder);
  if (incompatible & INCOMPATIBLE.externalData)
    throw new ImageFault("its data is in another file, which is not supported");
  if (incompatible & INCOMPATIBLE.extendedL2)
    throw new ImageFault("it has subclusters (extended L2 entries), which are not supported");
  if (high !== 0 || (incompatible & ~KNOWN) !== 0)
    throw new ImageFault("it needs features that are not known here");
  if (refcountOrder > 6) throw new ImageFault(`its refcount order is ${refcountOrder}`);
  const typed = incompatible & INCOMPATIBLE.compression;
  const compression = typed ? (bytes[FIELD.compression] ?? 0) : COMPRESSION.deflate;
  if (compression > COMPRESSION.zstd || (typed && length <= V3_LENGTH))
    throw new ImageFault(`its compression type is ${compression}`);
  const autoclear = view.getUint32(FIELD.autoclear) + view.getUint32(FIELD.autoclear + 4) !== 0;
  return { incompatible, autoclear, refcountOrder, compression };
}

function parseBackingName(bytes: Uint8Array): string | undefined {
  const view = viewOf(bytes);
  const at = u64(view, FIELD.backingOffset);
  const length = view.getUint32(FIELD.backingLength);
  if (at === 0) return undefined;
  if (!(at + length <= bytes.length) || length > LIMIT.backingName)
    throw new ImageFault("the name of its backing file lies outside its header");
  return Buffer.from(bytes.subarray(at, at + length)).toString("utf8");
}

function checkSizes(header: Header): void {
  const { clusterBits, size, l1Entries, refcountTableClusters, snapshots } = header;
  if (clusterBits < LIMIT.minClusterBits || clusterBits > LIMIT.maxClusterBits)
    throw new ImageFault(`its cluster size is two to the power of ${clusterBits}`);
  const cluster = 2 ** clusterBits;
  if (!(size < 2 ** 53)) throw new ImageFault("its size is more than 8 PiB");
  if (8 * l1Entries > LIMIT.l1Bytes) throw new ImageFault(`its L1 table has ${l1Entries} entries`);
  if (l1Entries < Math.ceil(size / (cluster * (cluster / 8))))
    throw new ImageFault(`its L1 table of ${l1Entries} entries is too small for its size`);
  if (refcountTableClusters * cluster > LIMIT.refcountTableBytes || refcountTableClusters === 0)
    throw new ImageFault(`its refcount table has ${refcountTableClusters} clusters`);
  if (snapshots > LIMIT.snapshots) throw new ImageFault(`it has ${snapshots} snapshots`);
}
