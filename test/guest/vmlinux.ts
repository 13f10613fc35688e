// The uncompressed kernel inside a bzImage (Linux Documentation/arch/x86/boot.rst, "payload_offset"),
// for the ways to boot that need one.
import { gunzipSync } from "node:zlib";

const SETUP_SECTS = 0x1f1;
const PAYLOAD_OFFSET = 0x248;
const PAYLOAD_LENGTH = 0x24c;
const SECTOR = 512;

const GZIP = 0x8b1f;
const LZ4_LEGACY = 0x184c2102;

export function extractVmlinux(bzImage: Buffer): Buffer {
  const setup = ((bzImage[SETUP_SECTS] || 4) + 1) * SECTOR;
  const at = setup + bzImage.readUInt32LE(PAYLOAD_OFFSET);
  const payload = bzImage.subarray(at, at + bzImage.readUInt32LE(PAYLOAD_LENGTH));
  const size = payload.readUInt32LE(payload.length - 4); // what scripts/Makefile.lib appends
  if (payload.readUInt32LE(0) === LZ4_LEGACY) return unpackLz4(payload.subarray(4, -4), size);
  if (payload.readUInt16LE(0) === GZIP) return gunzipSync(payload);
  throw new Error(`a kernel packed in a way not known here: ${payload.toString("hex", 0, 6)}`);
}

/** LZ4's "legacy frame": blocks of up to 8 MiB, each after its packed length. */
function unpackLz4(packed: Buffer, size: number): Buffer {
  const out = Buffer.alloc(size);
  let end = 0;
  for (let at = 0; at < packed.length; ) {
    const length = packed.readUInt32LE(at);
    end = unpackBlock(packed.subarray(at + 4, at + 4 + length), out, end);
    at += 4 + length;
  }
  if (end !== size) throw new Error(`${end} bytes of ${size} unpacked`);
  return out;
}

/** LZ4 block format: literals and matches in turn, each length 4 bits and then bytes of 255. */
function unpackBlock(packed: Buffer, out: Buffer, from: number): number {
  let at = 0;
  let end = from;
  const long = (start: number): number => {
    let total = start;
    for (let more = start === 15 ? 255 : 0; more === 255; total += more) more = packed[at++] ?? 0;
    return total;
  };
  while (at < packed.length) {
    const token = packed[at++] ?? 0;
    const literals = long(token >> 4);
    end += packed.copy(out, end, at, at + literals);
    at += literals;
    if (at >= packed.length) break; // the last sequence has no match
    const distance = packed.readUInt16LE(at);
    at += 2;
    const stop = end + long(token & 15) + 4;
    if (distance === 0 || distance > end) throw new Error("a match before the beginning");
    // A match may reach into itself: byte by byte where it does.
    if (stop - end <= distance) end += out.copy(out, end, end - distance, stop - distance);
    else for (; end < stop; end++) out[end] = out[end - distance] ?? 0;
  }
  return end;
}

/** Xen's PHYS32_ENTRY: 4 bytes of name, 8 (or 4) of address, type 18. */
const pvhNote = (size: number): Buffer =>
  Buffer.concat([new Uint8Array(Uint32Array.of(4, size, 18).buffer), Buffer.from("Xen\0")]);

/** Where the type of the PVH note lies; -1 where there is none. */
const pvhNoteType = (vmlinux: Buffer): number => {
  const at = [8, 4].map((size) => vmlinux.indexOf(pvhNote(size))).find((found) => found >= 0);
  return at === undefined ? -1 : at + 8;
};

export const hasPvhNote = (vmlinux: Buffer): boolean => pvhNoteType(vmlinux) >= 0;

/** The same kernel, that a loader can start only by the 64-bit protocol. */
export function withoutPvhNote(vmlinux: Buffer): Buffer {
  const copy = Buffer.from(vmlinux);
  const at = pvhNoteType(copy);
  if (at >= 0) copy.writeUInt32LE(0, at);
  return copy;
}
