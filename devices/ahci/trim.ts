// The ranges of DATA SET MANAGEMENT: ACS-3, "LBA Range Entry": 48 bits of address, 16 of length.

export interface SectorRange {
  readonly first: number;
  readonly sectors: number;
}

const ENTRY = 8;

/** Entries of no length mean nothing. */
export function parseTrimRanges(bytes: Uint8Array): SectorRange[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const out: SectorRange[] = [];
  for (let at = 0; at < bytes.length; at += ENTRY) {
    const first = view.getUint32(at, true) + view.getUint16(at + 4, true) * 2 ** 32;
    const sectors = view.getUint16(at + 6, true);
    if (sectors > 0) out.push({ first, sectors });
  }
  return out;
}

/** Those that follow one on the other become one: a guest splits what is longer than 16 bits say. */
export function mergeRanges(ranges: readonly SectorRange[]): SectorRange[] {
  const out: SectorRange[] = [];
  for (const range of ranges) {
    const last = out.at(-1);
    if (last && last.first + last.sectors === range.first)
      out[out.length - 1] = { first: last.first, sectors: last.sectors + range.sectors };
    else out.push(range);
  }
  return out;
}
