import { constants } from "node:os";
import { describe, expect, it } from "vitest";
import { RawBackend } from "../block/raw.js";
import { checkDevice } from "../device.js";
import { FakeHost } from "../fakes.js";
import { PciBus } from "../pci/bus.js";
import { AtaDisk } from "./disk.js";
import { FakeAhciDriver, PX, registerFrame, settle } from "./fake-driver.js";
import { Ahci } from "./hba.js";

const MIB = 2 ** 20;
const FD = 3;
const SECTORS = 4096;
const BASE = 0xc0000000;
// Retyped from AHCI 1.3.1 and ACS-3.
const [DHRS, PSS, SDBS, OFS, IFS, HBFS, TFES] = [1, 2, 8, 1 << 24, 1 << 27, 1 << 29, 1 << 30];
const [OK, ERR] = [0x50, 0x51];

const CONTENT = Uint8Array.from({ length: 512 * SECTORS }, (_, i) => i >> 9);

interface Shape {
  readonly readOnly?: boolean;
  readonly ports?: number;
  readonly logicalSector?: number;
  readonly physicalSector?: number;
}

function make({ readOnly = false, ports = 1, ...sectors }: Shape = {}) {
  const host = new FakeHost(8 * MIB);
  const log: string[] = [];
  const files = Array.from({ length: ports }, (_, index) =>
    host.io.put(FD + index, CONTENT.slice()),
  );
  const geometry = {
    ...{ size: 512 * SECTORS, logicalSector: 512, physicalSector: 512 },
    ...sectors,
    readOnly,
  };
  const hba = new Ahci(host, new PciBus(host), {
    name: "ahci",
    address: { bus: 0, slot: 3, fn: 0 },
    devices: files.map((_, index) => {
      const backend = new RawBackend({
        file: host.io.file(FD + index),
        geometry,
        clock: host.clock,
      });
      return (link) => new AtaDisk({ backend, serial: "SERIAL", model: "MODEL" }, link);
    }),
    log: (text) => void log.push(text),
  });
  const file = files[0] ?? host.io.put(99, new Uint8Array(0));
  const drive = (port = 0) => new FakeAhciDriver(host, BASE, port, port).start();
  return { host, hba, files, file, log, drive };
}

const words = (bytes: Uint8Array): Uint16Array =>
  new Uint16Array(bytes.buffer, bytes.byteOffset, 256);

describe("a port", () => {
  it("has a link, a signature and nothing pending after a start", () => {
    const { host, drive } = make();
    const port = drive();
    expect(port.get(PX.ssts)).toBe(0x133);
    expect(port.get(PX.sig)).toBe(0x101);
    expect(port.get(PX.tfd)).toBe(0x150);
    expect(port.get(PX.cmd) & 0xc011).toBe(0xc011);
    expect([...port.received(0x40, 3)]).toEqual([0x34, 0, 0x50]);
    expect(host.interrupts.wire("ioapic", 20).level).toBe(false);
    expect(host.bus.load(BASE)).toBe(0xe134ff00);
    expect([host.bus.load(BASE + 0x0c), host.bus.load(BASE + 0x10)]).toEqual([1, 0x10301]);
  });

  it("keeps the signature until it may deliver it", () => {
    const { host, drive } = make();
    const port = drive();
    port.set(PX.cmd, 0);
    port.set(PX.sctl, 1);
    expect([port.get(PX.ssts), port.get(PX.tfd)]).toEqual([0, 0x7f]);
    port.set(PX.sctl, 0);
    expect([port.get(PX.ssts), port.get(PX.tfd), port.get(PX.sig)]).toEqual([
      ...[0x133, 0x80, 0xffffffff],
    ]);
    // PxIS shows the exchange until PxSERR is cleared, and cannot be cleared itself.
    expect(port.get(PX.is) & 0x400040).toBe(0x400040);
    port.set(PX.is, 0xffffffff);
    expect(port.get(PX.is) & 0x400040).toBe(0x400040);
    port.set(PX.serr, 0xffffffff);
    expect(port.get(PX.is)).toBe(0);
    port.set(PX.cmd, 0x10);
    expect([port.get(PX.tfd), port.get(PX.sig)]).toEqual([0x150, 0x101]);
    expect(host.bus.load(BASE + 8)).toBe(1);
  });

  it("resets by software with two frames", async () => {
    const { drive } = make();
    const port = drive();
    const control = (value: number): Uint8Array => {
      const frame = registerFrame({ command: 0 });
      frame[1] = 0;
      frame[15] = value;
      return frame;
    };
    await port.run({ command: 0xef, features: 0x82 }); // write cache off
    await port.run({ command: 0 }, { frame: control(4), flags: 0x500 });
    expect([port.get(PX.ci), port.get(PX.tfd) & 0x88]).toEqual([0, 0]);
    await port.run({ command: 0 }, { frame: control(0) });
    expect([port.get(PX.ci), port.get(PX.tfd), port.get(PX.sig)]).toEqual([0, 0x150, 0x101]);
  });

  it("resets all with the HBA and keeps its addresses", () => {
    const { host, drive } = make({ ports: 2 });
    const port = drive();
    const list = port.get(PX.clb);
    host.bus.store(BASE + 4, 3);
    expect(host.bus.load(BASE + 4)).toBe(0x80000000);
    expect([port.get(PX.clb), port.get(PX.ie), port.get(PX.cmd)]).toEqual([list, 0, 6]);
  });

  it("interrupts by level until port and HBA were cleared", async () => {
    const { host, drive } = make();
    const port = drive();
    const wire = host.interrupts.wire("ioapic", 20);
    await port.run({ command: 0xe7 });
    expect([wire.level, port.get(PX.is), host.bus.load(BASE + 8)]).toEqual([true, DHRS, 1]);
    host.bus.store(BASE + 8, 1); // too early: the port still interrupts
    expect([wire.level, host.bus.load(BASE + 8)]).toEqual([true, 1]);
    port.set(PX.is, DHRS);
    expect(wire.level).toBe(true);
    host.bus.store(BASE + 8, 1);
    expect([wire.level, host.bus.load(BASE + 8)]).toEqual([false, 0]);
  });

  it("several ports have each a disk of their own", async () => {
    const { host, drive, files } = make({ ports: 8 });
    expect(host.bus.load(BASE + 0x0c)).toBe(0xff);
    const port = drive(7);
    port.data().fill(0x77, 0, 512);
    expect(await port.run({ command: 0x35, lba: 2, count: 1 }, { length: 512 })).toBe(OK);
    expect([files[7]?.bytes[1024], files[0]?.bytes[1024]]).toEqual([0x77, 2]);
    expect(host.bus.load(BASE + 8)).toBe(0x80);
  });
});

describe("a disk", () => {
  it("says what it is", async () => {
    const { drive } = make({ logicalSector: 512, physicalSector: 4096 });
    const port = drive();
    expect(await port.run({ command: 0xec }, { length: 512 })).toBe(OK);
    const id = words(port.data());
    expect([id[60], id[100], id[75], id[106], id[217]]).toEqual([SECTORS, SECTORS, 31, 0x6003, 1]);
    const sum = port
      .data()
      .subarray(0, 512)
      .reduce((a, b) => a + b, 0);
    expect([sum & 0xff, port.data()[510]]).toEqual([0, 0xa5]);
    expect([port.get(PX.is), port.transferred()]).toEqual([PSS, 512]);
    expect([...port.received(0x20, 3), port.received(0x20, 20)[15]]).toEqual([
      0x5f,
      0x60,
      0x58,
      OK,
    ]);
  });

  it("large sectors are in words 106 and 117", async () => {
    const port = make({ logicalSector: 4096, physicalSector: 4096 }).drive();
    await port.run({ command: 0xec }, { length: 512 });
    const id = words(port.data());
    expect([id[106], id[117], id[60]]).toEqual([0x5000, 2048, SECTORS / 8]);
  });

  it.each([
    ["READ SECTORS", 0x20, 0x40, PSS],
    ["READ SECTORS EXT", 0x24, 0x40, PSS],
    ["READ DMA", 0xc8, 0x40, DHRS],
    ["READ DMA EXT", 0x25, 0x40, DHRS],
  ])("%s", async (_, command, device, interrupt) => {
    const port = make().drive();
    const status = await port.run(
      { command, device, lba: 5, count: 3 },
      { length: 1536, region: 700 },
    );
    expect([status, port.get(PX.is), port.transferred()]).toEqual([OK, interrupt, 1536]);
    expect([port.data()[0], port.data()[1535]]).toEqual([5, 7]);
    expect(port.get(PX.ci)).toBe(0);
  });

  it("takes cylinder, head and sector", async () => {
    const port = make().drive();
    // Cylinder 1, head 2, sector 3.
    await port.run({ command: 0xc8, device: 0x02, lba: (1 << 8) | 3, count: 1 }, { length: 512 });
    expect(port.data()[0]).toBe((1 * 16 * 63 + 2 * 63 + 2) & 0xff);
    expect(await port.run({ command: 0xc8, device: 0, lba: 0, count: 1 }, { length: 512 })).toBe(
      ERR,
    );
  });

  it.each([0x30, 0x34, 0xca, 0x35, 0x3d])("writes (0x%x)", async (command) => {
    const { drive, file } = make();
    const port = drive();
    port.data().fill(0xa1, 0, 1024);
    expect(await port.run({ command, lba: 9, count: 2 }, { length: 1024 })).toBe(OK);
    expect([file.bytes[9 * 512 - 1], file.bytes[9 * 512], file.bytes[11 * 512]]).toEqual([
      8, 0xa1, 11,
    ]);
    expect(port.get(PX.is)).toBe(DHRS);
    expect(file.requests.map(({ operation }) => operation)).toEqual(
      command === 0x3d ? ["write", "sync"] : ["write"],
    );
  });

  it("without its write cache syncs every write", async () => {
    const { drive, file } = make();
    const port = drive();
    await port.run({ command: 0xef, features: 0x82 });
    await port.run({ command: 0x35, lba: 9, count: 2 }, { length: 1024 });
    expect(file.requests.map(({ operation }) => operation)).toEqual(["write", "sync"]);
  });

  it("transfers in blocks only when they are set", async () => {
    const port = make().drive();
    expect(await port.run({ command: 0xc4, count: 1 }, { length: 512 })).toBe(ERR);
    port.restart();
    expect(await port.run({ command: 0xc6, count: 16 })).toBe(OK);
    expect(await port.run({ command: 0xc4, count: 1 }, { length: 512 })).toBe(OK);
    expect(await port.run({ command: 0xc6, count: 3 })).toBe(ERR);
  });

  it("trims what it is told to, in whole pieces", async () => {
    const { drive, file } = make();
    const port = drive();
    const view = new DataView(port.data().buffer, port.data().byteOffset);
    for (const [index, [first, count]] of [
      [8, 8],
      [16, 8],
      [100, 2],
      [0, 0],
    ].entries()) {
      view.setUint32(8 * index, first ?? 0, true);
      view.setUint16(8 * index + 6, count ?? 0, true);
    }
    expect(await port.run({ command: 0x06, features: 1, count: 1 }, { length: 512 })).toBe(OK);
    expect(file.requests).toEqual([
      { operation: "discard", offset: 8 * 512, length: 16 * 512 },
      { operation: "discard", offset: 100 * 512, length: 2 * 512 },
    ]);
    view.setUint32(0, SECTORS, true);
    expect(await port.run({ command: 0x06, features: 1, count: 1 }, { length: 512 })).toBe(ERR);
  });

  it.each([
    ["FLUSH CACHE EXT", { command: 0xea }, OK],
    ["READ VERIFY", { command: 0x42, lba: 4, count: 1 }, OK],
    ["READ VERIFY past the end", { command: 0x42, lba: SECTORS, count: 1 }, ERR],
    ["STANDBY IMMEDIATE", { command: 0xe0 }, OK],
    ["SET FEATURES, Ultra DMA 6", { command: 0xef, features: 3, count: 0x46 }, OK],
    ["SET FEATURES, Ultra DMA 7", { command: 0xef, features: 3, count: 0x47 }, ERR],
    ["SET FEATURES, none such", { command: 0xef, features: 0x99 }, ERR],
    ["SMART without its key", { command: 0xb0, features: 0xda }, ERR],
    ["SMART RETURN STATUS", { command: 0xb0, features: 0xda, lba: 0xc24f00 }, OK],
    ["SECURITY FREEZE LOCK", { command: 0xf5 }, ERR],
    ["SECURITY ERASE UNIT", { command: 0xf4 }, ERR],
    ["IDENTIFY PACKET DEVICE", { command: 0xa1 }, ERR],
    ["NOP", { command: 0x00 }, ERR],
    ["past the end", { command: 0x25, lba: SECTORS - 1, count: 2 }, ERR],
    ["far past the end", { command: 0x25, lba: 2 ** 48 - 1, count: 1 }, ERR],
  ])("%s", async (_, registers, status) => {
    const port = make().drive();
    expect(await port.run(registers, { length: 512 })).toBe(status);
    expect(port.get(PX.is)).toBe(status === OK ? DHRS : TFES | DHRS);
    port.restart();
    expect(await port.run({ command: 0xe5 })).toBe(OK);
  });

  it("rests and wakes", async () => {
    const port = make().drive();
    const power = async (): Promise<number | undefined> => {
      await port.run({ command: 0xe5 });
      return port.received(0x40, 20)[12];
    };
    expect(await power()).toBe(0xff);
    await port.run({ command: 0xe1 });
    expect(await power()).toBe(0x80);
    await port.run({ command: 0xe0 });
    expect(await power()).toBe(0);
    await port.run({ command: 0x25, count: 1 }, { length: 512 });
    expect(await power()).toBe(0xff);
  });

  it("that is only read refuses writes and offers no TRIM", async () => {
    const { drive, file } = make({ readOnly: true });
    const port = drive();
    expect(await port.run({ command: 0x35, count: 1 }, { length: 512 })).toBe(ERR);
    port.restart();
    await port.run({ command: 0xec }, { length: 512 });
    expect([words(port.data())[169], file.requests]).toEqual([0, []]);
  });
});

describe("queued commands", () => {
  const queue = (port: FakeAhciDriver, slots: readonly number[], command = 0x60): void => {
    for (const slot of slots)
      port.prepare({ command, features: 1, lba: slot, count: slot << 3 }, { slot, length: 512 });
    const bits = slots.reduce((all, slot) => all + 2 ** slot, 0);
    port.set(PX.sact, bits);
    port.set(PX.ci, bits);
  };

  it("32 are under way at a time, and end in one frame", async () => {
    const { drive, file } = make();
    const port = drive();
    file.held = true;
    queue(
      port,
      Array.from({ length: 32 }, (_, slot) => slot),
    );
    await settle();
    expect([file.requests.length, port.get(PX.ci), port.get(PX.sact)]).toEqual([32, 0, 0xffffffff]);
    expect(port.get(PX.tfd) & 0x88).toBe(0);
    file.release();
    await settle();
    expect([port.get(PX.sact), port.get(PX.is)]).toEqual([0, SDBS]);
    expect([...port.received(0x58, 8)]).toEqual([0xa1, 0x40, 0x50, 0, 255, 255, 255, 255]);
    expect(port.data(9)[0]).toBe(9);
  });

  it("one that fails ends them all, and its log says which", async () => {
    const { drive, file } = make();
    const port = drive();
    file.errors.set("read", constants.errno.EIO);
    queue(port, [4, 5]);
    await settle();
    expect(port.get(PX.is)).toBe(SDBS | TFES);
    expect([port.get(PX.tfd) & 0xff, port.get(PX.sact)]).toEqual([ERR, 0x30]);
    file.errors.clear();
    port.restart();
    expect(await port.run({ command: 0x25, count: 1 }, { length: 512 })).toBe(ERR); // not yet
    port.restart();
    expect(await port.run({ command: 0x2f, lba: 0x10, count: 1 }, { length: 512 })).toBe(OK);
    expect([...port.data().subarray(0, 5)]).toEqual([4, 0, ERR, 0x40, 4]);
    expect(await port.run({ command: 0x25, count: 1 }, { length: 512 })).toBe(OK);
  });

  it("are aborted by another command among them", async () => {
    const { drive, file } = make();
    const port = drive();
    file.held = true;
    queue(port, [1]);
    expect(await port.run({ command: 0xe7 }, { slot: 2 })).toBe(ERR);
    file.release();
    await settle();
    expect([port.get(PX.is) & TFES, port.get(PX.sact)]).toEqual([TFES, 2]);
  });

  it("a tag that is not the slot's is refused", async () => {
    const port = make().drive();
    port.prepare({ command: 0x60, features: 1, count: 3 << 3 }, { slot: 2, length: 512 });
    port.set(PX.sact, 4);
    port.set(PX.ci, 4);
    await settle();
    expect(port.get(PX.is) & TFES).toBe(TFES);
  });

  it("writes with FUA are synced; SEND FPDMA QUEUED trims", async () => {
    const { drive, file } = make();
    const port = drive();
    port.prepare({ command: 0x61, features: 1, lba: 7, device: 0xc0 }, { length: 512 });
    port.set(PX.sact, 1);
    port.set(PX.ci, 1);
    await settle();
    const send = { command: 0x64, features: 1, count: 0, auxiliary: 1 };
    port.prepare(send, { length: 512 });
    port.data().fill(0, 0, 512).set([4, 0, 0, 0, 0, 0, 2, 0]);
    port.set(PX.sact, 1);
    port.set(PX.ci, 1);
    await settle();
    expect(file.requests.map(({ operation }) => operation)).toEqual(["write", "sync", "discard"]);
    expect([port.get(PX.sact), port.get(PX.is) & TFES]).toEqual([0, 0]);
  });
});

describe("what a guest gets wrong", () => {
  const cases: [string, (port: FakeAhciDriver, view: DataView) => void, number][] = [
    ["a list that is no memory", (port) => port.set(PX.clb, 0xfffffc00), HBFS],
    ["a table that is no memory", (p, v) => v.setUint32(p.headerAt() + 12, 9, true), HBFS],
    ["data that are no memory", (p, v) => v.setUint32(p.tableAt() + 0x84, 9, true), HBFS],
    [
      "a region that ends past memory",
      (p, v) => v.setUint32(p.tableAt() + 0x80, 8 * MIB - 100, true),
      HBFS,
    ],
    ["a table that is too short", (p, v) => v.setUint32(p.tableAt() + 0x8c, 255, true), OFS | IFS],
    ["no regions", (p, v) => v.setUint32(p.headerAt(), 5, true), OFS | IFS],
    ["another FIS", (p, v) => v.setUint8(p.tableAt(), 0x34), IFS],
    ["a frame of one dword", (p, v) => v.setUint32(p.headerAt(), 0x10001, true), IFS],
  ];
  it.each(cases)("%s halts the port until it is restarted", async (_, spoil, wanted) => {
    const { host, drive, log } = make();
    const port = drive();
    const list = port.get(PX.clb);
    port.prepare({ command: 0x25, count: 1 }, { length: 512 });
    spoil(port, new DataView(host.memory.bytes.buffer));
    port.set(PX.ci, 1);
    await settle();
    expect([port.get(PX.is), port.get(PX.ci), log.length]).toEqual([wanted >>> 0, 1, 1]);
    port.set(PX.clb, list);
    port.restart();
    expect(port.get(PX.ci)).toBe(0);
    expect(await port.run({ command: 0x25, lba: 3, count: 1 }, { length: 512 })).toBe(OK);
    expect(port.data()[0]).toBe(3);
  });

  it("commands to a port that is stopped are not taken", async () => {
    const { drive, file } = make();
    const port = drive();
    port.set(PX.cmd, 0x10);
    port.prepare({ command: 0x25, count: 1 }, { length: 512 });
    port.set(PX.ci, 1);
    port.set(PX.sact, 1);
    await settle();
    expect([port.get(PX.ci), port.get(PX.sact), file.requests]).toEqual([0, 0, []]);
  });

  it("a stop amid a command gives it up, and its memory is left alone", async () => {
    const { drive, file } = make();
    const port = drive();
    file.held = true;
    await port.run({ command: 0x25, lba: 5, count: 1 }, { length: 512 });
    expect(port.get(PX.tfd) & 0x80).toBe(0x80);
    port.set(PX.cmd, 0x10);
    expect([port.get(PX.tfd) & 0x80, port.get(PX.ci), port.get(PX.cmd) & 0x8000]).toEqual([
      0, 0, 0,
    ]);
    file.release();
    await settle();
    expect([port.data()[0], port.get(PX.is)]).toEqual([0, 0]);
  });
});

describe("state", () => {
  it("survives save and restore with commands under way, each done once", async () => {
    const one = make();
    checkDevice(one.hba);
    const port = one.drive();
    one.file.errors.set("write", constants.errno.ENOSPC);
    for (const slot of [3, 9]) {
      port.data(slot).fill(slot, 0, 512);
      port.prepare(
        { command: 0x61, features: 1, lba: slot, count: slot << 3 },
        { slot, length: 512 },
      );
    }
    port.set(PX.sact, 0x208);
    port.set(PX.ci, 0x208);
    await settle();
    await one.hba.rest();
    const state = JSON.parse(JSON.stringify(one.hba.save()));
    const two = make();
    two.host.memory.bytes.set(one.host.memory.bytes);
    two.hba.restore(state);
    two.hba.wake();
    await settle();
    const again = new FakeAhciDriver(two.host, BASE);
    expect([again.get(PX.sact), again.get(PX.is), again.get(PX.ci)]).toEqual([0, SDBS, 0]);
    expect([two.file.bytes[3 * 512], two.file.bytes[9 * 512]]).toEqual([3, 9]);
    expect(two.host.interrupts.wire("ioapic", 20).level).toBe(true);
  });

  it("commands that come while it rests are done when it wakes", async () => {
    const { hba, drive, file } = make();
    const port = drive();
    await hba.rest();
    await port.run({ command: 0x25, count: 1 }, { length: 512 });
    expect([file.requests.length, port.get(PX.ci)]).toEqual([0, 1]);
    hba.wake();
    await settle();
    expect([file.requests.length, port.get(PX.ci)]).toEqual([1, 0]);
  });

  it("refuses what is none of its own", () => {
    const { hba } = make();
    const state = JSON.parse(JSON.stringify(make({ ports: 2 }).hba.save()));
    expect(() => hba.restore(state)).toThrow(/ports: 1 expected/);
  });
});

it("sends a message for each new bit, and again for what is left", async () => {
  const { host, drive } = make();
  const port = drive();
  const config = (at: number, value: number, size: number): void => {
    host.bus.out(0xcf8, 0x80000000 | (3 << 11) | (at & ~3), 4);
    host.bus.out(0xcfc + (at & 3), value, size);
  };
  config(0x44, 0xfee00000, 4);
  config(0x4c, 0x31, 2);
  config(0x42, 1, 2);
  await port.run({ command: 0xe7 });
  expect(host.interrupts.messages).toEqual([{ address: 0xfee00000, data: 0x31 }]);
  host.bus.store(BASE + 8, 1); // the port's own status is still set
  expect(host.interrupts.messages.length).toBe(2);
  port.set(PX.is, DHRS);
  host.bus.store(BASE + 8, 1);
  expect([host.interrupts.messages.length, host.interrupts.wire("ioapic", 20).level]).toEqual([
    2,
    false,
  ]);
});
