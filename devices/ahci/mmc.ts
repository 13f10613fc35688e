// What a CD or DVD drive answers about itself and its disc: SPC-4 and MMC-6, by the names of their
// commands. Pure data: the drive decides when each is right.

export const OPERATION = {
  testUnitReady: 0x00,
  requestSense: 0x03,
  inquiry: 0x12,
  startStop: 0x1b,
  preventAllow: 0x1e,
  readFormatCapacities: 0x23,
  readCapacity: 0x25,
  read10: 0x28,
  seek10: 0x2b,
  verify10: 0x2f,
  synchronizeCache: 0x35,
  readToc: 0x43,
  getConfiguration: 0x46,
  eventStatus: 0x4a,
  readDiscInformation: 0x51,
  readTrackInformation: 0x52,
  modeSense10: 0x5a,
  reportLuns: 0xa0,
  read12: 0xa8,
  setSpeed: 0xbb,
  mechanismStatus: 0xbd,
  readCd: 0xbe,
} as const;

const BLOCK = 2048;
/** More than a CD of 99 minutes holds: a DVD. */
const MAX_CD_BLOCKS = 99 * 60 * 75;
const PROFILE = { none: 0x0000, cd: 0x0008, dvd: 0x0010 } as const;

const be16 = (value: number): number[] => [(value >> 8) & 0xff, value & 0xff];
const be32 = (value: number): number[] => [...be16(value >>> 16), ...be16(value & 0xffff)];
const text = (value: string, length: number): number[] => [
  ...Buffer.from(value.slice(0, length).padEnd(length, " "), "latin1"),
];
const bytes = (...parts: (number | readonly number[])[]): Uint8Array =>
  Uint8Array.from(parts.flat());

/** Two bytes in front that count those after them. */
const counted = (...parts: (number | readonly number[])[]): Uint8Array => {
  const rest = parts.flat();
  return bytes(be16(rest.length), rest);
};

/** "INQUIRY": an ATAPI device with a removable medium. */
export const inquiry = (): Uint8Array =>
  bytes(
    0x05,
    0x80,
    0x00,
    0x21,
    31,
    0,
    0,
    0,
    text("BHYVE", 8),
    text("BHYVE DVD-ROM", 16),
    text("001", 4),
  );

/** "Vital product data": which pages there are, and the serial number; undefined: no such page. */
export function vitalData(page: number, serial: string): Uint8Array | undefined {
  if (page === 0x00) return bytes(0x05, 0x00, 0, 2, 0x00, 0x80);
  return page === 0x80 ? bytes(0x05, 0x80, 0, 20, text(serial, 20)) : undefined;
}

/** "READ CAPACITY": the last block's address. */
export const capacity = (blocks: number): Uint8Array =>
  bytes(be32(Math.max(0, blocks - 1)), be32(BLOCK));

/** "READ FORMAT CAPACITIES": one descriptor, of formatted media (2) or of none (3). */
export const formatCapacities = (blocks: number): Uint8Array =>
  bytes(0, 0, 0, 8, be32(blocks), blocks > 0 ? 0x02 : 0x03, be32(BLOCK).slice(1));

/** "Minute, second, frame": a block's place, 150 blocks behind the lead-in. */
function address(block: number, msf: boolean): number[] {
  if (!msf) return be32(block);
  const frames = block + 150;
  return [0, Math.floor(frames / 4500) & 0xff, Math.floor(frames / 75) % 60, frames % 75];
}

const DATA_TRACK = 0x14;
const LEAD_OUT = 0xaa;

/** "READ TOC/PMA/ATIP"; undefined: no such format, or no such track. */
export function tableOfContents(
  format: number,
  from: number,
  msf: boolean,
  blocks: number,
): Uint8Array | undefined {
  const track = (number: number, block: number): number[] => [
    ...[0, DATA_TRACK, number, 0],
    ...address(block, msf),
  ];
  if (format === 0 && (from <= 1 || from === LEAD_OUT))
    return counted(1, 1, from <= 1 ? track(1, 0) : [], track(LEAD_OUT, blocks));
  if (format === 1) return counted(1, 1, track(1, 0));
  return format === 2 ? rawContents(blocks) : undefined;
}

/** Format 2: points A0, A1, A2 and track 1 of session 1. */
function rawContents(blocks: number): Uint8Array {
  const point = (number: number, place: readonly number[]): number[] => [
    ...[1, DATA_TRACK, 0, number, 0, 0, 0, 0],
    ...place,
  ];
  const [, ...leadOut] = address(blocks, true);
  const [, ...start] = address(0, true);
  return counted(
    ...[1, 1],
    point(0xa0, [1, 0, 0]),
    point(0xa1, [1, 0, 0]),
    point(0xa2, leadOut),
    point(1, start),
  );
}

const ZEROS = Array.from({ length: 8 }, () => 0);

/** "READ DISC INFORMATION": complete and not erasable, one session of one track. */
export const discInformation = (): Uint8Array =>
  counted(
    0x0e,
    1,
    1,
    1,
    1,
    0x20,
    0,
    0,
    0,
    0,
    be32(0),
    be32(0xffffffff),
    be32(0xffffffff),
    ZEROS,
    0,
    0,
  );

export const trackInformation = (blocks: number): Uint8Array =>
  counted(
    ...[1, 1, 0, 0x04, 0x01, 0],
    be32(0),
    be32(0),
    be32(0),
    be32(0),
    be32(blocks),
    be32(0),
    ...[0, 0, 0, 0],
  );

const profileOf = (blocks: number): number =>
  blocks === 0 ? PROFILE.none : blocks > MAX_CD_BLOCKS ? PROFILE.dvd : PROFILE.cd;

/** "Features": number, version and flags, then what each says. */
function featuresOf(blocks: number): readonly (readonly [number, number, readonly number[]])[] {
  const profile = profileOf(blocks);
  const isNow = (one: number): number => (one === profile ? 1 : 0);
  const [persistent, whenPresent] = [0x03, profile === PROFILE.none ? 0 : 1];
  const profiles = [PROFILE.dvd, PROFILE.cd].flatMap((one) => [...be16(one), isNow(one), 0]);
  return [
    [0x0000, persistent, profiles],
    [0x0001, persistent | (2 << 2), [...be32(7), 1, 0, 0, 0]], // ATAPI, with device busy events
    [0x0002, persistent | (1 << 2), [0x02, 0, 0, 0]],
    [0x0003, persistent | (2 << 2), [0x39, 0, 0, 0]], // a tray that locks, ejects and loads
    [0x0010, whenPresent, [...be32(BLOCK), ...be16(1), 0, 0]],
    [0x001d, whenPresent, []],
    [0x001e, (2 << 2) | isNow(PROFILE.cd), [0, 0, 0, 0]],
    [0x001f, isNow(PROFILE.dvd), []],
    [0x0100, persistent, []],
    [0x0105, persistent, [0, 0, 0, 0]],
  ];
}

/** "GET CONFIGURATION"; `type`: all (0), those that hold now (1), the one asked for (2). */
export function configuration(type: number, from: number, blocks: number): Uint8Array {
  const wanted = featuresOf(blocks).filter(([number, flags]) => {
    if (type === 2) return number === from;
    return number >= from && (type === 0 || (flags & 1) !== 0);
  });
  const descriptors = wanted.flatMap(([number, flags, data]) => [
    ...be16(number),
    flags,
    data.length,
    ...data,
  ]);
  return bytes(be32(4 + descriptors.length), 0, 0, be16(profileOf(blocks)), descriptors);
}

const MEDIA_CLASS = 4;

/** "GET EVENT STATUS NOTIFICATION": of the classes asked for, there are media events. */
export function eventStatus(classes: number, event: number, status: number): Uint8Array {
  const supported = 1 << MEDIA_CLASS;
  if (!(classes & supported)) return counted(0x80, supported);
  return bytes(be16(6), MEDIA_CLASS, supported, event & 0x0f, status, 0, 0);
}

/** "MECHANISM STATUS": byte 0 idle, byte 1 with the door. */
export const mechanismStatus = (open: boolean): Uint8Array =>
  bytes(0, open ? 0x10 : 0, 0, 0, 0, 0, 0, 0);

/** "REPORT LUNS": this one. */
export const luns = (): Uint8Array => bytes(be32(8), be32(0), be32(0), be32(0));

/** "MODE SENSE (10)", page control in bits 7:6 of byte 2. */
export const PAGE_CONTROL = { current: 0, changeable: 1, default: 2, saved: 3 } as const;
const ALL_PAGES = 0x3f;

const modePages = (locked: boolean): ReadonlyMap<number, readonly number[]> =>
  new Map([
    [0x01, [0x00, 0x05, 0, 0, 0, 0, 0, 0, 0, 0]],
    [0x0d, [0, 0x0d, ...be16(60), ...be16(75)]],
    [
      0x2a,
      [
        ...[0x3b, 0x00, 0x71, 0x60, 0x29 | (locked ? 0x02 : 0), 0x00],
        ...[...be16(8467), ...be16(2), ...be16(2048), ...be16(8467)],
        ...[0, 0, ...be16(0), ...be16(0), 0, 0, 0, 0],
      ],
    ],
  ]);

/** undefined: there is no such page. */
export function modeSense(control: number, page: number, locked: boolean): Uint8Array | undefined {
  const wanted = [...modePages(locked)].filter(([code]) => page === ALL_PAGES || code === page);
  if (wanted.length === 0) return undefined;
  const pages = wanted.flatMap(([code, data]) => [
    code,
    data.length,
    ...(control === PAGE_CONTROL.changeable ? data.map(() => 0) : data),
  ]);
  return counted(...[0, 0, 0, 0, 0, 0], pages);
}
