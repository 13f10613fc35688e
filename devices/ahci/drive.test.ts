import { constants } from "node:os";
import { describe, expect, it } from "vitest";
import { RawBackend } from "../block/raw.js";
import { checkDevice } from "../device.js";
import { FakeHost } from "../fakes.js";
import { PciBus } from "../pci/bus.js";
import { CdDrive } from "./drive.js";
import { FakeAhciDriver, PX, settle } from "./fake-driver.js";
import { Ahci } from "./hba.js";

const BASE = 0xc0000000;
const BLOCK = 2048;
const BLOCKS = 300;
const [OK, ERR] = [0x50, 0x51];
// Retyped from SPC-4 and MMC-6.
const TEST_UNIT_READY = [0x00];
const SENSE = [0x03, 0, 0, 0, 18];
const READ = [0x28, 0, 0, 0, 0, 7, 0, 0, 2];
const EVENTS = [0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8];

function make(loaded = true) {
  const host = new FakeHost(2 ** 20);
  let nextFd = 3;
  const disc = (label: string, fill: number, blocks = BLOCKS) => {
    const fd = nextFd++;
    const file = host.io.put(fd, new Uint8Array(blocks * BLOCK).fill(fill));
    const geometry = {
      ...{ size: blocks * BLOCK, logicalSector: 512, physicalSector: 512 },
      readOnly: true,
    };
    const open = () => new RawBackend({ file: host.io.file(fd), geometry, clock: host.clock });
    return { label, file, open };
  };
  const first = disc("one", 1);
  let drive: CdDrive | undefined;
  const hba = new Ahci(host, new PciBus(host), {
    name: "cd",
    address: { bus: 0, slot: 3, fn: 0 },
    devices: [
      (link) => {
        const medium = loaded ? { label: first.label, backend: first.open() } : undefined;
        drive = new CdDrive({ medium, serial: "SERIAL", model: "MODEL" }, link);
        return drive;
      },
    ],
    log: () => {},
  });
  if (drive === undefined) throw new Error("no drive");
  const port = new FakeAhciDriver(host, BASE).start();
  /** Status of a packet; a check condition is recovered from as a driver does. */
  const ask = async (packet: readonly number[], length = 0): Promise<number> => {
    const [status] = await port.packet(packet, length);
    if (status === ERR) port.restart();
    return status;
  };
  const sense = async (): Promise<number[]> => {
    await ask(SENSE, 18);
    const data = port.data();
    return [(data[2] ?? 0) & 15, data[12] ?? 0, data[13] ?? 0];
  };
  return { host, hba, drive, port, disc, first, ask, sense };
}

/** Past the unit attention of the reset. */
async function ready(loaded = true) {
  const all = make(loaded);
  expect(await all.ask(TEST_UNIT_READY)).toBe(ERR);
  expect(await all.sense()).toEqual([6, 0x29, 0]);
  return all;
}

describe("a drive", () => {
  it("is a packet device, whoever asks", async () => {
    const { port } = make();
    expect(port.get(PX.sig)).toBe(0xeb140101);
    expect(await port.run({ command: 0xec }, { length: 512 })).toBe(ERR);
    expect([...port.received(0x40, 7)].slice(4)).toEqual([0x01, 0x14, 0xeb]);
    port.restart();
    expect(await port.run({ command: 0xa1 }, { length: 512 })).toBe(OK);
    expect([port.data()[0], port.data()[1]]).toEqual([0xc0, 0x85]);
  });

  it("reads", async () => {
    const { port, ask, first } = await ready();
    first.file.bytes.fill(0x55, 7 * BLOCK, 9 * BLOCK);
    expect(await ask(READ, 2 * BLOCK)).toBe(OK);
    expect([port.data()[0], port.data()[2 * BLOCK - 1], port.transferred()]).toEqual([
      ...[0x55, 0x55, 2 * BLOCK],
    ]);
    expect(port.received(0x40, 20)[12]).toBe(3);
    expect(await ask([0xa8, 0, 0, 0, 1, 0x2c, 0, 0, 0, 1], BLOCK)).toBe(ERR);
  });

  it.each([
    ["past the end", [0x28, 0, 0, 0, 1, 0x2b, 0, 0, 2], [5, 0x21, 0]],
    ["an unknown command", [0xff], [5, 0x20, 0]],
    ["a field that it has not", [0x5a, 0, 0x33, 0, 0, 0, 0, 0, 8], [5, 0x24, 0]],
    ["saved pages", [0x5a, 0, 0xea, 0, 0, 0, 0, 0, 8], [5, 0x39, 0]],
  ])("refuses %s", async (_, packet, wanted) => {
    const { ask, sense } = await ready();
    expect(await ask(packet, 4096)).toBe(ERR);
    expect(await sense()).toEqual(wanted);
    expect(await sense()).toEqual([0, 0, 0]); // told once
  });

  it("tells of a host's error as of an unreadable disc", async () => {
    const { ask, sense, first } = await ready();
    first.file.errors.set("read", constants.errno.EIO);
    expect(await ask(READ, 4096)).toBe(ERR);
    expect(await sense()).toEqual([3, 0x11, 0]);
  });

  it.each([
    ["INQUIRY", [0x12, 0, 0, 0, 36], 36, { 0: 5, 1: 0x80, 8: 0x42 }],
    ["READ CAPACITY", [0x25], 8, { 2: 1, 3: 0x2b, 6: 8 }],
    [
      "READ TOC",
      [0x43, 0, 0, 0, 0, 0, 0, 0, 20],
      20,
      { 1: 18, 2: 1, 3: 1, 6: 1, 14: 0xaa, 19: 0x2c },
    ],
    ["READ TOC, MSF", [0x43, 2, 0, 0, 0, 0, 0, 0, 12], 12, { 9: 0, 10: 2, 11: 0 }],
    ["READ TOC, sessions", [0x43, 0, 1, 0, 0, 0, 0, 0, 12], 12, { 1: 10 }],
    ["GET CONFIGURATION", [0x46, 0, 0, 0, 0, 0, 0, 0, 16], 16, { 7: 8, 10: 3, 11: 8 }],
    ["READ DISC INFORMATION", [0x51, 0, 0, 0, 0, 0, 0, 0, 34], 34, { 1: 32, 2: 0x0e }],
    ["READ TRACK INFORMATION", [0x52, 1, 0, 0, 0, 1, 0, 0, 36], 36, { 1: 34, 26: 1, 27: 0x2c }],
    ["MODE SENSE", [0x5a, 0, 0x2a, 0, 0, 0, 0, 0, 30], 30, { 1: 32, 8: 0x2a, 9: 24 }],
    ["MECHANISM STATUS", [0xbd, 0, 0, 0, 0, 0, 0, 0, 0, 8], 8, { 1: 0 }],
    ["REPORT LUNS", [0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16], 16, { 3: 8 }],
  ])("answers %s", async (_, packet, length, wanted) => {
    const { port, ask } = await ready();
    expect([await ask(packet, length), port.transferred()]).toEqual([OK, length]);
    for (const [at, byte] of Object.entries(wanted)) expect(port.data()[Number(at)], at).toBe(byte);
  });

  it("gives no more than the host has room for", async () => {
    const { port, ask } = await ready();
    expect([await ask([0x12, 0, 0, 0, 5], 36), port.transferred()]).toEqual([OK, 5]);
  });
});

describe("a disc", () => {
  it("is not there, with a closed door", async () => {
    const { ask, sense } = await ready(false);
    expect(await ask(TEST_UNIT_READY)).toBe(ERR);
    expect(await sense()).toEqual([2, 0x3a, 1]);
  });

  it("is changed from outside: not ready, then a unit attention, then the new one", async () => {
    const { drive, disc, port, ask, sense, first } = await ready();
    expect(drive.exchange(undefined, false)).toBe(true);
    expect(first.file.closed).toBe(true);
    expect(await ask(EVENTS, 8)).toBe(OK);
    expect([...port.data().subarray(0, 6)]).toEqual([0, 6, 4, 0x10, 3, 1]);
    expect(await ask(READ, 4096)).toBe(ERR);
    expect(await sense()).toEqual([2, 0x3a, 2]);
    expect(drive.exchange(disc("two", 2, 50), false)).toBe(true);
    expect(await ask(TEST_UNIT_READY)).toBe(ERR);
    expect(await sense()).toEqual([6, 0x28, 0]);
    expect(await ask(EVENTS, 8)).toBe(OK);
    expect([...port.data().subarray(4, 6)]).toEqual([2, 2]);
    expect(await ask(READ, 4096)).toBe(OK);
    expect([port.data()[0], drive.tray.label]).toEqual([2, "two"]);
  });

  it("that the guest has locked is asked for, and taken only by force", async () => {
    const { drive, disc, port, ask, first } = await ready();
    expect(await ask([0x1e, 0, 0, 0, 1])).toBe(OK);
    expect(await ask([0x1b, 0, 0, 0, 2])).toBe(ERR); // the guest itself cannot either
    expect(drive.exchange(disc("two", 2), false)).toBe(false);
    expect(drive.tray).toMatchObject({ label: "one", locked: true, isOpen: false });
    await ask(EVENTS, 8);
    expect(port.data()[4]).toBe(1);
    expect(drive.exchange(disc("two", 2), true)).toBe(true);
    expect([drive.tray.label, drive.tray.locked, first.file.closed]).toEqual(["two", false, true]);
  });

  it("taken amid a read makes the read fail, and its memory is left alone", async () => {
    const { drive, port, first } = await ready();
    first.file.held = true;
    port.data().fill(0);
    await port.packet(READ, 4096);
    expect(port.get(PX.tfd) & 0x80).toBe(0x80);
    drive.exchange(undefined, true);
    first.file.release();
    await settle();
    expect([port.get(PX.tfd) & 0xff, port.data()[0]]).toEqual([ERR, 0]);
  });

  it("is ejected and loaded again by the guest", async () => {
    const { ask, sense, drive } = await ready();
    expect(await ask([0x1b, 0, 0, 0, 2])).toBe(OK);
    expect(drive.tray.isOpen).toBe(true);
    expect(await ask(TEST_UNIT_READY)).toBe(ERR);
    expect(await sense()).toEqual([2, 0x3a, 2]);
    expect(await ask([0x1b, 0, 0, 0, 3])).toBe(OK);
    expect(await ask(TEST_UNIT_READY)).toBe(ERR);
    expect(await sense()).toEqual([6, 0x28, 0]);
    expect(await ask(TEST_UNIT_READY)).toBe(OK);
  });

  it("is told of by asynchronous notification where the guest wants that", async () => {
    const { port, drive } = await ready();
    expect(await port.run({ command: 0xef, features: 0x10, count: 5 })).toBe(OK);
    port.set(PX.is, 0xffffffff);
    drive.exchange(undefined, true);
    expect([port.get(PX.sntf), port.get(PX.is), port.received(0x58, 2)[1]]).toEqual([1, 8, 0xc0]);
  });
});

it("keeps its state; another disc after a restore is a changed one", async () => {
  const one = await ready();
  checkDevice(one.hba);
  await one.ask([0x1e, 0, 0, 0, 1]);
  const state = JSON.parse(JSON.stringify(one.hba.save()));
  const same = make();
  same.hba.restore(state);
  expect(same.drive.tray).toMatchObject({ label: "one", locked: true });
  expect(await same.ask(TEST_UNIT_READY)).toBe(OK);
  const other = make(false);
  other.hba.restore(state);
  expect(other.drive.tray).toMatchObject({ isOpen: true, locked: false });
  expect(() => other.hba.restore({ ...state, ports: [{}] })).toThrow(/cd\.ports\[0\]/);
});
