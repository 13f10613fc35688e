// What IDENTIFY DEVICE and IDENTIFY PACKET DEVICE say: ACS-3, "IDENTIFY DEVICE" and "IDENTIFY PACKET
// DEVICE", word by word.
import { createHash } from "node:crypto";
import type { BlockGeometry } from "../block/backend.js";
import type { FeatureState } from "./features.js";
import { SLOTS } from "./registers.js";

export const IDENTIFY_LENGTH = 512;
/** Blocks of 64 ranges in one DATA SET MANAGEMENT: our choice. */
export const MAX_TRIM_BLOCKS = 8;
export const MAX_MULTIPLE = 128;
const MAX_LBA28 = 0x0fff_ffff;
/** "CHS": the translation of every disk past 8 GB. */
export const GEOMETRY = { heads: 16, sectors: 63, maxCylinders: 16383 } as const;
const FIRMWARE = "001";

type Words = Readonly<Record<number, number>>;

class IdentifyData {
  readonly bytes = new Uint8Array(IDENTIFY_LENGTH);
  readonly #view = new DataView(this.bytes.buffer);

  words(words: Words): void {
    for (const [index, value] of Object.entries(words))
      this.#view.setUint16(2 * Number(index), value, true);
  }
  /** Two characters a word, the first in its high byte. */
  text(word: number, words: number, text: string): void {
    const padded = text.slice(0, 2 * words).padEnd(2 * words, " ");
    for (let i = 0; i < words; i++)
      this.#view.setUint16(
        2 * (word + i),
        wordOf(padded.charCodeAt(2 * i), padded, 2 * i + 1),
        true,
      );
  }
  wide(word: number, words: 2 | 4, value: number): void {
    const view = this.#view;
    if (words === 2) view.setUint32(2 * word, value, true);
    else view.setBigUint64(2 * word, BigInt(value), true);
  }
  /** "Integrity word": the sum of all bytes is zero. */
  seal(): Uint8Array {
    this.bytes[510] = 0xa5;
    const sum = this.bytes.reduce((total, byte) => total + byte, 0);
    this.bytes[511] = (256 - (sum & 0xff)) & 0xff;
    return this.bytes;
  }
}

const wordOf = (high: number, text: string, low: number): number =>
  ((high & 0xff) << 8) | (text.charCodeAt(low) & 0xff);

/** Words that both kinds of device have the same. */
const transport = ({ transferMode, preservation }: FeatureState): Words => ({
  49: 0x0f00, // DMA, LBA, IORDY
  53: 0x0006, // words 64 to 70 and 88 hold
  63: 0x0007 | selected(transferMode, 0x20),
  64: 0x0003, // PIO modes 3 and 4
  65: 120,
  66: 120,
  67: 120,
  68: 120, // nanoseconds a word
  80: 0x07f0, // ATA/ATAPI-4 to ACS-3
  88: 0x007f | selected(transferMode, 0x40),
  222: 0x107f, // serial, up to SATA 3.1
  79: preservation ? 0x0040 : 0,
});

/** The mode that SET FEATURES chose, if it is of this kind. */
const selected = (mode: number, kind: number): number =>
  (mode & 0xf8) === kind ? 1 << (8 + (mode & 7)) : 0;

function sectorSizes({ logicalSector, physicalSector }: BlockGeometry): Words {
  const exponent = Math.log2(physicalSector / logicalSector);
  const large = logicalSector > 512;
  const words = logicalSector / 2;
  return {
    106: 0x4000 | (exponent > 0 ? 0x2000 | exponent : 0) | (large ? 0x1000 : 0),
    ...(large && { 117: words & 0xffff, 118: words >>> 16 }),
    209: 0x4000,
  };
}

/** "World wide name": NAA 5, the company of the original's MAC addresses, and a number of our own. */
function worldWideName(serial: string): Words {
  const hash = createHash("sha256").update(serial).digest();
  return {
    108: 0x500a,
    109: 0x0980 | (hash.readUInt16LE(0) & 0x000f),
    110: hash.readUInt16LE(2),
    111: hash.readUInt16LE(4),
  };
}

export interface DiskIdentity {
  readonly geometry: BlockGeometry;
  readonly serial: string;
  readonly model: string;
  readonly features: FeatureState;
}

export function identifyDisk({ geometry, serial, model, features }: DiskIdentity): Uint8Array {
  const data = new IdentifyData();
  const sectors = Math.floor(geometry.size / geometry.logicalSector);
  const cylinders = Math.floor(sectors / (GEOMETRY.heads * GEOMETRY.sectors));
  const trims = !geometry.readOnly;
  data.words({
    0: 0x0040,
    1: Math.min(cylinders, GEOMETRY.maxCylinders),
    3: GEOMETRY.heads,
    6: GEOMETRY.sectors,
    47: 0x8000 | MAX_MULTIPLE,
    59: features.multiple === 0 ? 0 : 0x0100 | features.multiple,
    69: trims ? 0x4000 : 0, // reads of trimmed sectors are deterministic
    75: SLOTS - 1,
    76: 0x010e, // generations 1 to 3, NCQ
    77: trims ? 0x0046 : 0x0006, // at generation 3; SEND FPDMA QUEUED
    78: 0x0040, // settings may be preserved
    82: 0x4069, // NOP, look-ahead, write cache, power management, SMART
    83: 0x7400, // FLUSH CACHE and EXT, 48-bit addresses
    84: 0x4160, // world wide name, FUA, general purpose logs
    85: 0x4008 | (features.smart ? 1 : 0) | caches(features),
    86: 0xb400,
    87: 0x4160,
    105: trims ? MAX_TRIM_BLOCKS : 0,
    119: 0x4008, // READ LOG DMA EXT
    120: 0x4008,
    169: trims ? 1 : 0,
    217: 1, // does not rotate
    ...transport(features),
    ...sectorSizes(geometry),
    ...worldWideName(serial),
  });
  data.text(10, 10, serial);
  data.text(23, 4, FIRMWARE);
  data.text(27, 20, model);
  data.wide(60, 2, Math.min(sectors, MAX_LBA28));
  data.wide(100, 4, sectors);
  return data.seal();
}

const caches = ({ writeCache, lookAhead }: FeatureState): number =>
  (writeCache ? 0x20 : 0) | (lookAhead ? 0x40 : 0);

export function identifyPacket(serial: string, model: string, features: FeatureState): Uint8Array {
  const data = new IdentifyData();
  data.words({
    ...transport(features),
    0: 0x85c0, // a CD device of 12-byte packets that is removable and answers within 50 us
    76: 0x000e,
    77: 0x0006,
    78: 0x0060, // asynchronous notification; settings may be preserved
    79: (features.preservation ? 0x40 : 0) | (features.notification ? 0x20 : 0),
    82: 0x4218, // NOP, DEVICE RESET, PACKET, power management
    83: 0x4000,
    84: 0x4000,
    85: 0x4218,
    87: 0x4000,
    125: 0,
  });
  data.text(10, 10, serial);
  data.text(23, 4, FIRMWARE);
  data.text(27, 20, model);
  return data.seal();
}
