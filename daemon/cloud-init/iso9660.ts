// A disc of a few files in its root folder: ECMA-119 (ISO 9660), with the names as they are by Rock
// Ridge (RRIP 1.09 over SUSP 1.09; Linux, BSD) and by Joliet (Windows). The same files give the same
// bytes.

export interface DiscFile {
  /** At most 64 characters of ASCII. */
  readonly name: string;
  readonly bytes: Uint8Array;
}

const SECTOR = 2048;
/** ECMA-119 §6.2.1: the system area comes before. */
const FIRST = 16;
/** What lies where, in sectors: descriptors, path tables, folders, Rock Ridge's own, then the files. */
const AT = {
  primary: FIRST,
  joliet: FIRST + 1,
  terminator: FIRST + 2,
  primaryTableL: FIRST + 3,
  primaryTableM: FIRST + 4,
  jolietTableL: FIRST + 5,
  jolietTableM: FIRST + 6,
  primaryRoot: FIRST + 7,
  jolietRoot: FIRST + 8,
  extensions: FIRST + 9,
  files: FIRST + 10,
} as const;

const ascii = (text: string): Buffer => Buffer.from(text, "latin1");
/** UCS-2 with the high byte first (Joliet, "Identification of Unicode"). */
const ucs2 = (text: string): Buffer => Buffer.from(text, "utf16le").swap16();

/** §7.3.3 and §7.2.3: the same number with either byte first. */
function both32(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeUInt32LE(value, 0);
  bytes.writeUInt32BE(value, 4);
  return bytes;
}
function both16(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt16LE(value, 0);
  bytes.writeUInt16BE(value, 2);
  return bytes;
}

/** §9.1.5: 1 January 1970, UTC. */
const DATE = Buffer.from([70, 1, 1, 0, 0, 0, 0]);
/** §8.4.26.1: not specified. */
const NO_LONG_DATE = Buffer.concat([ascii("0".repeat(16)), Buffer.alloc(1)]);

interface Extent {
  readonly sector: number;
  readonly length: number;
}

interface Entry extends Extent {
  readonly identifier: Buffer;
  readonly folder?: boolean;
  readonly systemUse?: Buffer;
}

const even = (bytes: Buffer): Buffer =>
  bytes.length % 2 === 0 ? bytes : Buffer.concat([bytes, Buffer.alloc(1)]);

/** §9.1: a directory record. */
function record({ sector, length, identifier, folder = false, systemUse }: Entry): Buffer {
  const head = Buffer.concat([
    Buffer.alloc(2), // its own length, and that of an extended attribute record
    ...[both32(sector), both32(length), DATE],
    Buffer.from([folder ? 2 : 0, 0, 0]), // file flags (§9.1.6); not interleaved
    both16(1),
    Buffer.from([identifier.length]),
    identifier,
  ]);
  const whole = even(Buffer.concat([even(head), systemUse ?? Buffer.alloc(0)]));
  if (whole.length > 255) throw new RangeError("a directory record is too long");
  whole.writeUInt8(whole.length, 0);
  return whole;
}

// SUSP and RRIP: entries of two letters, a length and a version.

const entry = (signature: string, data: Buffer): Buffer =>
  Buffer.concat([ascii(signature), Buffer.from([4 + data.length, 1]), data]);

const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;
/** RRIP §4.1.1, "PX": mode, links, user, group. Nobody but root may read. */
const attributes = (folder: boolean): Buffer =>
  entry(
    "PX",
    Buffer.concat([
      both32(folder ? S_IFDIR | 0o500 : S_IFREG | 0o400),
      both32(1),
      both32(0),
      both32(0),
    ]),
  );
/** RRIP §4.1.6, "TF": when it was changed. */
const times = entry("TF", Buffer.concat([Buffer.from([0x02]), DATE]));
/** RRIP §4.1.4, "NM". */
const posixName = (name: string): Buffer =>
  entry("NM", Buffer.concat([Buffer.from([0]), ascii(name)]));
/** SUSP §5.3, "SP": the first of the root folder says that there are others. */
const sharing = entry("SP", Buffer.from([0xbe, 0xef, 0]));

const RRIP = {
  identifier: "RRIP_1991A",
  description:
    "THE ROCK RIDGE INTERCHANGE PROTOCOL PROVIDES SUPPORT FOR POSIX FILE SYSTEM SEMANTICS",
  source:
    "PLEASE CONTACT DISC PUBLISHER FOR SPECIFICATION SOURCE.  SEE PUBLISHER IDENTIFIER IN PRIMARY VOLUME DESCRIPTOR FOR CONTACT INFORMATION.",
} as const;

/** SUSP §5.5, "ER", as RRIP §4.3 has it: too long for a record, so it lies in a sector of its own. */
function extensions(): Buffer {
  const { identifier, description, source } = RRIP;
  const lengths = Buffer.from([identifier.length, description.length, source.length, 1]);
  return entry("ER", Buffer.concat([lengths, ascii(identifier + description + source)]));
}

/** SUSP §5.1, "CE": where that is. */
const continued = (length: number): Buffer =>
  entry("CE", Buffer.concat([both32(AT.extensions), both32(0), both32(length)]));

/** §6.8.2.2: a folder begins with itself and its parent, which of a root is itself. */
function folder(sector: number, files: readonly Entry[], own: readonly [Buffer, Buffer]): Buffer {
  const root = { sector, length: SECTOR, folder: true };
  const records = [
    record({ ...root, identifier: Buffer.from([0]), systemUse: own[0] }),
    record({ ...root, identifier: Buffer.from([1]), systemUse: own[1] }),
    ...files.map(record),
  ];
  return Buffer.concat(records);
}

/** §9.4: a path table of the root alone. */
function pathTable(sector: number, highFirst: boolean): Buffer {
  const bytes = Buffer.alloc(10);
  bytes.writeUInt8(1, 0);
  if (highFirst) {
    bytes.writeUInt32BE(sector, 2);
    bytes.writeUInt16BE(1, 6);
  } else {
    bytes.writeUInt32LE(sector, 2);
    bytes.writeUInt16LE(1, 6);
  }
  return bytes;
}

interface Volume {
  /** §8.1.1: primary or supplementary. */
  readonly type: 1 | 2;
  readonly text: (text: string) => Buffer;
  /** Joliet's sign: UCS-2 level 3. */
  readonly escape: string;
  readonly label: string;
  readonly sectors: number;
  readonly tableL: number;
  readonly tableM: number;
  readonly root: number;
}

/** §8.4.20 to §8.4.25: who made it, and files that say more: nobody, and none. */
const IDENTIFIERS = [
  ...[[191, 318] as const, [319, 446] as const, [447, 574] as const, [575, 702] as const],
  ...[[703, 739] as const, [740, 776] as const, [777, 813] as const],
];

/** §8.4 and §8.5: a volume descriptor. */
function descriptor(volume: Volume): Buffer {
  const bytes = Buffer.alloc(SECTOR);
  const put = (at: number, data: Buffer): void => bytes.set(data, at - 1); // positions count from 1
  const words = (from: number, to: number, text: string): void => {
    const length = to - from + 1;
    const blank = volume.text(" ".repeat(length)).subarray(0, length);
    put(from, Buffer.from(blank));
    put(from, volume.text(text).subarray(0, length));
  };
  put(1, Buffer.concat([Buffer.from([volume.type]), ascii("CD001"), Buffer.from([1])]));
  words(9, 40, "");
  words(41, 72, volume.label);
  put(81, both32(volume.sectors));
  put(89, ascii(volume.escape));
  put(121, Buffer.concat([both16(1), both16(1), both16(SECTOR), both32(10)]));
  bytes.writeUInt32LE(volume.tableL, 140);
  bytes.writeUInt32BE(volume.tableM, 148);
  const root = { sector: volume.root, length: SECTOR, folder: true, identifier: Buffer.alloc(1) };
  put(157, record(root));
  for (const [from, to] of IDENTIFIERS) words(from, to, "");
  for (const at of [814, 831, 848, 865]) put(at, NO_LONG_DATE);
  put(882, Buffer.from([1]));
  return bytes;
}

/** §8.3. */
const terminator = Buffer.concat([Buffer.from([255]), ascii("CD001"), Buffer.from([1])]);

/** §7.5.1 at level 1 of §10: eight characters of A to Z, 0 to 9 and _. */
const shortName = (name: string): string =>
  `${name
    .toUpperCase()
    .replace(/[^A-Z0-9]/g, "_")
    .slice(0, 8)}.;1`;

/** Throws RangeError where the names are too many or too much alike. */
export function iso9660(label: string, files: readonly DiscFile[]): Buffer {
  const sorted = [...files].sort((a, b) => (a.name < b.name ? -1 : 1));
  const shorts = new Set(sorted.map(({ name }) => shortName(name)));
  if (shorts.size < sorted.length) throw new RangeError("two files have the same short name");
  let next: number = AT.files;
  const placed = sorted.map(({ name, bytes }) => {
    const sector = next;
    next += Math.ceil(bytes.length / SECTOR);
    return { name, bytes, sector, length: bytes.length };
  });
  const disc = Buffer.alloc(next * SECTOR);
  const put = (sector: number, bytes: Uint8Array): void => disc.set(bytes, sector * SECTOR);
  const oneSector = (sector: number, bytes: Buffer): void => {
    if (bytes.length > SECTOR) throw new RangeError("too many files for one folder");
    put(sector, bytes);
  };

  const common = { label, sectors: next };
  const primary = { tableL: AT.primaryTableL, tableM: AT.primaryTableM, root: AT.primaryRoot };
  const joliet = { tableL: AT.jolietTableL, tableM: AT.jolietTableM, root: AT.jolietRoot };
  put(AT.primary, descriptor({ ...common, ...primary, type: 1, text: ascii, escape: "" }));
  put(AT.joliet, descriptor({ ...common, ...joliet, type: 2, text: ucs2, escape: "%/E" }));
  put(AT.terminator, terminator);
  for (const { tableL, tableM, root } of [primary, joliet]) {
    put(tableL, pathTable(root, false));
    put(tableM, pathTable(root, true));
  }

  const rockRidge = extensions();
  put(AT.extensions, rockRidge);
  const ofFolder = Buffer.concat([attributes(true), times]);
  const ofRoot = Buffer.concat([sharing, ofFolder, continued(rockRidge.length)]);
  const posix = placed.map(({ name, sector, length }) => ({
    ...{ sector, length },
    identifier: ascii(shortName(name)),
    systemUse: Buffer.concat([attributes(false), times, posixName(name)]),
  }));
  oneSector(AT.primaryRoot, folder(AT.primaryRoot, posix, [ofRoot, ofFolder]));
  const wide = placed.map(({ name, sector, length }) => ({
    ...{ sector, length },
    identifier: ucs2(`${name};1`),
  }));
  oneSector(AT.jolietRoot, folder(AT.jolietRoot, wide, [Buffer.alloc(0), Buffer.alloc(0)]));
  for (const { sector, bytes } of placed) put(sector, bytes);
  return disc;
}
