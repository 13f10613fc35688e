// Small images for tests, built field by field as the formats' documents have them.

const put = (bytes: Uint8Array): DataView => new DataView(bytes.buffer);

export interface BzImageFields {
  readonly payload?: Uint8Array;
  readonly version?: number;
  readonly bootFlag?: number;
  readonly loadflags?: number;
  readonly relocatable?: number;
  readonly alignment?: number;
  readonly prefAddress?: bigint;
  readonly initSize?: number;
  readonly cmdlineSize?: number;
  readonly initrdAddrMax?: number;
}

/** Setup of 1 + 2 sectors, then the payload. */
export function bzImage(fields: BzImageFields = {}): Uint8Array {
  const payload = fields.payload ?? Uint8Array.from({ length: 4096 }, (_, index) => index & 0xff);
  const bytes = new Uint8Array(3 * 512 + payload.length);
  const view = put(bytes);
  view.setUint8(0x1f1, 2);
  view.setUint32(0x1f4, payload.length / 16, true);
  view.setUint16(0x1fe, fields.bootFlag ?? 0xaa55, true);
  view.setUint8(0x201, 0x66); // the header ends at 0x268
  view.setUint32(0x202, 0x53726448, true);
  view.setUint16(0x206, fields.version ?? 0x20f, true);
  view.setUint8(0x211, fields.loadflags ?? 1);
  view.setUint32(0x22c, fields.initrdAddrMax ?? 0x7fffffff, true);
  view.setUint32(0x230, fields.alignment ?? 0x200000, true);
  view.setUint8(0x234, fields.relocatable ?? 1);
  view.setUint32(0x238, fields.cmdlineSize ?? 2047, true);
  view.setBigUint64(0x258, fields.prefAddress ?? 0x1000000n, true);
  view.setUint32(0x260, fields.initSize ?? 0x100000, true);
  bytes.set(payload, 3 * 512);
  return bytes;
}

export interface Segment {
  readonly at: number;
  readonly bytes: Uint8Array;
  readonly memory?: number;
}

export interface ElfFields {
  readonly entry: number;
  readonly segments: readonly Segment[];
  readonly note?: Uint8Array;
}

const align = (value: number): number => Math.ceil(value / 16) * 16;

export function elf64({ entry, segments, note }: ElfFields): Uint8Array {
  const parts = [...segments.map((one) => ({ type: 1, ...one }))];
  if (note) parts.push({ type: 4, at: 0, bytes: note });
  let next = align(64 + parts.length * 56);
  const bytes = new Uint8Array(parts.reduce((sum, one) => sum + align(one.bytes.length), next));
  const view = put(bytes);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setUint16(16, 2, true);
  view.setUint16(18, 62, true);
  view.setBigUint64(24, BigInt(entry), true);
  view.setBigUint64(32, 64n, true);
  view.setUint16(54, 56, true);
  view.setUint16(56, parts.length, true);
  for (const [index, part] of parts.entries()) {
    const at = 64 + index * 56;
    view.setUint32(at, part.type, true);
    view.setBigUint64(at + 8, BigInt(next), true);
    view.setBigUint64(at + 16, 0xffff_ffff_8000_0000n + BigInt(part.at), true);
    view.setBigUint64(at + 24, BigInt(part.at), true);
    view.setBigUint64(at + 32, BigInt(part.bytes.length), true);
    view.setBigUint64(at + 40, BigInt(part.memory ?? part.bytes.length), true);
    bytes.set(part.bytes, next);
    next += align(part.bytes.length);
  }
  return bytes;
}

export function elf32({ entry, segments }: ElfFields): Uint8Array {
  let next = align(52 + segments.length * 32);
  const bytes = new Uint8Array(segments.reduce((sum, one) => sum + align(one.bytes.length), next));
  const view = put(bytes);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 1, 1, 1]);
  view.setUint16(16, 2, true);
  view.setUint16(18, 3, true);
  view.setUint32(24, entry, true);
  view.setUint32(28, 52, true);
  view.setUint16(42, 32, true);
  view.setUint16(44, segments.length, true);
  for (const [index, segment] of segments.entries()) {
    const at = 52 + index * 32;
    const words = [1, next, segment.at, segment.at, segment.bytes.length];
    for (const [word, value] of words.entries()) view.setUint32(at + word * 4, value, true);
    view.setUint32(at + 20, segment.memory ?? segment.bytes.length, true);
    bytes.set(segment.bytes, next);
    next += align(segment.bytes.length);
  }
  return bytes;
}

/** A Xen note: owner, type 18, a 32-bit entry. */
export function pvhNote(entry: number): Uint8Array {
  const bytes = new Uint8Array(20);
  const view = put(bytes);
  view.setUint32(0, 4, true);
  view.setUint32(4, 4, true);
  view.setUint32(8, 18, true);
  bytes.set(new TextEncoder().encode("Xen\0"), 12);
  view.setUint32(16, entry, true);
  return bytes;
}

/** The header, and address fields when given: header, load, load end, bss end, entry. */
export function multibootHeader(flags: number, addresses: readonly number[] = []): Uint8Array {
  const bytes = new Uint8Array(12 + addresses.length * 4);
  const view = put(bytes);
  view.setUint32(0, 0x1badb002, true);
  view.setUint32(4, flags, true);
  view.setUint32(8, -(0x1badb002 + flags) >>> 0, true);
  for (const [index, value] of addresses.entries()) view.setUint32(12 + index * 4, value, true);
  return bytes;
}
