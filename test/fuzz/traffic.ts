// What a hostile driver does: register accesses at random places of the machine, and enough of each
// protocol in between (rings, command lists) that the paths behind the registers are reached.
import { IO_WINDOW, MEM32_WINDOW } from "../../devices/pci/address-map.js";
import { type Access, MOST_ACCESSES, WIDTHS } from "./player.js";
import type { Random } from "./random.js";

/** Where a device's registers are now. */
export interface Window {
  readonly space: Access["space"];
  readonly base: number;
  readonly length: number;
  /** What drives it. */
  readonly kind: "ahci" | "virtio" | "other";
}

/** Guest RAM that rings, lists and data lie in. */
export const ARENA = { base: 0x10_0000, length: 0x10_0000 } as const;

const FIXED: readonly Window[] = (
  [
    ["port", 0x20, 2],
    ["port", 0x40, 4],
    ["port", 0x60, 5],
    ["port", 0x70, 2],
    ["port", 0x80, 0x20],
    ["port", 0xa0, 2],
    ["port", 0xb0, 4],
    ["port", 0x2f8, 8],
    ["port", 0x3f8, 8],
    ["port", 0x400, 0x20],
    ["port", 0x4d0, 2],
    ["port", 0xcf8, 8],
    ["port", IO_WINDOW.base, 0x400],
    ["memory", 0xfec0_0000, 0x50],
    ["memory", 0xfed0_0000, 0x400],
    ["memory", 0xfee0_0000, 0x400],
    ["memory", MEM32_WINDOW.base, 0x4_0000],
    ["memory", 0xe000_0000, 0x10_0000],
  ] as const
).map(([space, base, length]) => ({ space, base, length, kind: "other" }));

const access = (
  space: Access["space"],
  write: boolean,
  width: Access["width"],
  at: number,
  value = 0,
): Access => ({ space, write, width, at, value: value >>> 0 });

const store = (at: number, value: number, width: Access["width"] = 4): Access =>
  access("memory", true, width, at, value);

/** Mostly near what is meant, so that the deep paths are reached. */
function word(random: Random): number {
  return random.pick([
    ...([0, 1, 2, 3, 4, 8, 0x11, 0xff, 0xffff, 0x1_0000, 0xffff_ffff] as const),
    random.below(256),
    random.below(2 ** 16),
    random.next(),
    ARENA.base + (random.below(ARENA.length) & ~0xfff),
    1 << random.below(31),
  ] as [number, ...number[]]);
}

function anywhere(random: Random, windows: readonly Window[]): Access {
  const known = [...windows, ...FIXED];
  const { space, base, length } = known[random.below(known.length)] ?? FIXED[0] ?? NOWHERE;
  const width = random.pick(WIDTHS);
  const aligned = random.chance(8) ? 0 : width - 1;
  const wild = random.chance(50);
  const at = wild && space === "port" ? random.below(2 ** 16) : base + random.below(length);
  return access(space, !random.chance(3), width, (at & ~aligned) >>> 0, word(random));
}
const NOWHERE: Window = { space: "port", base: 0x80, length: 1, kind: "other" };

/** Starts a port on the arena's command list, and issues commands. */
function ahciRound(random: Random, { base, length }: Window): Access[] {
  const ports = Math.max(1, Math.floor((length - 0x100) / 0x80));
  const port = base + 0x100 + 0x80 * random.below(ports);
  const start = [
    store(port + 0x18, 0),
    store(port + 0x00, ARENA.base),
    store(port + 0x04, 0),
    store(port + 0x08, ARENA.base + 0x8000),
    store(port + 0x0c, 0),
    store(port + 0x30, 0xffff_ffff),
    store(port + 0x14, 0xffff_ffff),
    store(port + 0x18, 0x11),
  ];
  const issue = Array.from({ length: 1 + random.below(6) }, () => {
    const slots = random.chance(3) ? random.next() : 1 << random.below(32);
    return [
      ...(random.chance(2) ? [store(port + 0x34, slots)] : []),
      store(port + 0x38, slots),
      access("memory", false, 4, port + random.pick([0x10, 0x20, 0x34, 0x38])),
    ];
  });
  const end = random.chance(4) ? [store(port + 0x2c, 1), store(port + 0x2c, 0)] : [];
  return [store(base + 4, 2), ...start, ...issue.flat(), ...end];
}

/** Command headers and tables that are nearly right. */
function ahciArena(random: Random, view: DataView): void {
  for (let slot = 0; slot < 32; slot++) {
    const header = 32 * slot;
    const table = 0x1_0000 + 0x400 * slot;
    const packet = random.chance(3) ? 0x20 : 0;
    view.setUint32(header, (random.below(8) << 16) | packet | (random.chance(20) ? 0 : 5), true);
    view.setUint32(header + 8, random.chance(20) ? word(random) : ARENA.base + table, true);
    view.setUint32(header + 12, random.chance(30) ? 1 : 0, true);
    const command = random.chance(3)
      ? random.below(256)
      : random.pick([0x25, 0x35, 0x60, 0x61, 0x64, 0xec, 0xa0, 0xa1, 0x06, 0x2f, 0xb0, 0xef, 0xea]);
    const lba = random.chance(4) ? random.next() : random.below(256);
    const bytes = [random.chance(20) ? 0x34 : 0x27, random.chance(20) ? 0 : 0x80, command, 1];
    for (const [index, byte] of bytes.entries()) view.setUint8(table + index, byte);
    view.setUint32(table + 4, 0x4000_0000 | (lba & 0xff_ffff), true);
    view.setUint32(table + 8, random.chance(10) ? random.next() : 0, true);
    view.setUint32(table + 12, (slot << 3) | (random.chance(4) ? 1 : 0), true);
    const operation = random.pick([
      0x00, 0x03, 0x12, 0x1b, 0x1e, 0x25, 0x28, 0x43, 0x46, 0x4a, 0x5a,
    ]);
    for (let i = 0; i < 16; i++) view.setUint8(table + 0x40 + i, random.below(4));
    view.setUint8(table + 0x40, random.chance(4) ? random.below(256) : operation);
    for (let region = 0; region < 8; region++) {
      const at = table + 0x80 + 16 * region;
      view.setUint32(
        at,
        random.chance(30) ? word(random) : ARENA.base + random.below(ARENA.length),
        true,
      );
      view.setUint32(at + 4, random.chance(50) ? 1 : 0, true);
      view.setUint32(at + 12, random.chance(4) ? random.next() : random.below(8192), true);
    }
  }
}

const RINGS = 0x4_0000;

/** Negotiates as virtio 1 or not, sets queues up in the arena and rings. */
function virtioRound(random: Random, { base }: Window): Access[] {
  const out = [store(base + 0x14, 0, 1), store(base + 0x14, 3, 1)];
  for (const select of [0, 1]) {
    out.push(store(base + 0x08, select), store(base + 0x0c, random.chance(2) ? 1 : random.next()));
  }
  out.push(store(base + 0x14, 0x0b, 1));
  for (let queue = 0; queue < 3; queue++) {
    const ring = ARENA.base + RINGS + 0x4000 * queue;
    out.push(
      store(base + 0x16, queue, 2),
      store(base + 0x18, random.pick([4, 8, 16, 64, 3]), 2),
      ...[0x20, 0x28, 0x30].flatMap((at, index) => [
        store(base + at, random.chance(20) ? word(random) : ring + 0x1000 * index),
        store(base + at + 4, 0),
      ]),
      store(base + 0x1c, 1, 2),
    );
  }
  out.push(store(base + 0x14, 0x0f, 1));
  for (let i = random.below(8); i >= 0; i--) {
    const queue = random.below(4);
    out.push(store(base + 0x3000 + 4 * queue, queue, 2));
  }
  return out;
}

/** Descriptors and available rings that are nearly right. */
function virtioArena(random: Random, view: DataView): void {
  for (let queue = 0; queue < 3; queue++) {
    const ring = RINGS + 0x4000 * queue;
    for (let index = 0; index < 64; index++) {
      const at = ring + 16 * index;
      view.setUint32(
        at,
        random.chance(20) ? word(random) : ARENA.base + random.below(ARENA.length),
        true,
      );
      view.setUint32(at + 4, random.chance(40) ? 1 : 0, true);
      view.setUint32(
        at + 8,
        random.chance(8) ? word(random) : random.pick([16, 1, 512, 44, 12]),
        true,
      );
      view.setUint16(at + 12, random.below(random.chance(4) ? 0x10000 : 4), true);
      view.setUint16(at + 14, random.chance(8) ? random.below(0x10000) : (index + 1) % 64, true);
    }
    view.setUint16(ring + 0x1002, random.below(16), true);
    for (let index = 0; index < 64; index++)
      view.setUint16(ring + 0x1004 + 2 * index, random.below(64), true);
  }
}

export function fillArena(random: Random, bytes: Uint8Array): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at < bytes.length; at += 64) view.setUint32(at, word(random), true);
  ahciArena(random, view);
  virtioArena(random, view);
}

export function traffic(random: Random, windows: readonly Window[]): Access[] {
  const ahci = windows.filter(({ kind }) => kind === "ahci");
  const virtio = windows.filter(({ kind }) => kind === "virtio");
  const out: Access[] = [];
  const wanted = 200 + random.below(1500);
  while (out.length < wanted) {
    const [one, other] = [ahci[random.below(ahci.length)], virtio[random.below(virtio.length)]];
    if (one && random.chance(20)) out.push(...ahciRound(random, one));
    else if (other && random.chance(20)) out.push(...virtioRound(random, other));
    else out.push(anywhere(random, windows));
  }
  return out.slice(0, MOST_ACCESSES);
}
