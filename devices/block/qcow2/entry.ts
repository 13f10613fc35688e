// L1 and L2 entries as two halves of 32 bits. qcow2.txt, "Cluster mapping": the offset is in bits 9
// to 55; bit 63 says that the cluster has one reference, which nobody here believes, bit 62 that it
// is compressed, bit 0 (version 3) that it reads as zeros whatever is there.

/** Bit 63, in the upper half. */
export const COPIED = 0x80000000;
const COMPRESSED = 0x40000000;
const ZERO = 1;

export type EntryKind = "none" | "zero" | "data" | "compressed";

export function kindOf(high: number, low: number, version: 2 | 3): EntryKind {
  if (high & COMPRESSED) return "compressed";
  if (version === 3 && low & ZERO) return "zero";
  return hostOf(high, low) === 0 ? "none" : "data";
}

/** Byte offset in the file of an L2 table, or of a cluster's data that is not compressed; 0: none. */
export const hostOf = (high: number, low: number): number =>
  (high & 0x00ffffff) * 2 ** 32 + ((low & 0xfffffe00) >>> 0);

/** qcow2.txt, "Compressed Clusters Descriptor": where, and at most how many bytes. */
export function compressedAt(
  high: number,
  low: number,
  clusterBits: number,
): { readonly offset: number; readonly length: number } {
  const offsetBits = 62 - (clusterBits - 8) - 32; // of the upper half
  const offset = (high & (2 ** offsetBits - 1)) * 2 ** 32 + low;
  const sectors = ((high & 0x3fffffff) >>> offsetBits) + 1;
  return { offset, length: sectors * 512 - (offset % 512) };
}

/** An entry of version 3 that reads as zeros. */
export const ZERO_ENTRY = { high: 0, low: ZERO } as const;
export const NO_ENTRY = { high: 0, low: 0 } as const;
/** A cluster of its own. */
export const dataEntry = (offset: number): { readonly high: number; readonly low: number } => ({
  high: (COPIED | Math.floor(offset / 2 ** 32)) >>> 0,
  low: offset % 2 ** 32,
});
