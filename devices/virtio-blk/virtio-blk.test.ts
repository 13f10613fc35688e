import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import { RawBackend } from "../block/raw.js";
import { checkDevice } from "../device.js";
import { FakeHost } from "../fakes.js";
import { PciBus } from "../pci/bus.js";
import { FakeDriver, type FakeDriverOptions } from "../virtio/fake-driver.js";
import { VirtioPci } from "../virtio/pci.js";
import { serialOf, virtioBlk } from "./model.js";

const MIB = 2 ** 20;
const FD = 3;
const SIZE = MIB;

interface Shape {
  readonly readOnly?: boolean;
  readonly queues?: number;
  readonly logicalSector?: number;
  readonly physicalSector?: number;
}

function make({ readOnly = false, queues = 1, ...sectors }: Shape = {}) {
  const host = new FakeHost(16 * MIB);
  const file = host.io.put(
    FD,
    Uint8Array.from({ length: SIZE }, (_, i) => i >> 9),
  );
  const geometry = { size: SIZE, logicalSector: 512, physicalSector: 512, ...sectors, readOnly };
  const backend = new RawBackend({ file: host.io.file(FD), geometry, clock: host.clock });
  const log: string[] = [];
  const device = new VirtioPci(
    host,
    new PciBus(host),
    virtioBlk,
    { backend, serial: "BHYVE-0123-4567-89AB", queues },
    {
      name: "disk",
      address: { bus: 0, slot: 5, fn: 0 },
      msix: true,
      log: (text) => void log.push(text),
    },
  );
  const drive = (options: Partial<FakeDriverOptions> = {}) =>
    new FakeDriver(host, { slot: 5, interface: "modern", interrupts: "msix", ...options }).start();
  return { host, file, backend, device, drive, log };
}

// Retyped from VIRTIO 1.2, "Block Device".
const [IN, OUT, FLUSH, GET_ID, DISCARD, WRITE_ZEROES] = [0, 1, 4, 8, 11, 13];
const [OK, IOERR, UNSUPP] = [0, 1, 2];

function header(type: number, sector = 0n): Uint8Array {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, type, true);
  view.setBigUint64(8, sector, true);
  return bytes;
}
function range(sector: bigint, count: number, flags = 0): Uint8Array {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, sector, true);
  view.setUint32(8, count, true);
  view.setUint32(12, flags, true);
  return bytes;
}

async function ask(driver: FakeDriver, readable: Uint8Array[], writable: number[], queue = 0) {
  driver.queue(queue).send(readable, writable);
  for (let i = 0; i < 8; i++) await Promise.resolve();
  const used = driver.queue(queue).used();
  if (used === undefined) throw new Error("the request has not ended");
  return { status: used.bytes.at(-1), data: used.bytes.subarray(0, -1), length: used.length };
}

describe.each([
  ["legacy", { interface: "legacy" }],
  ["modern", { interface: "modern", features: [28, 29] }],
  ["packed", { interface: "modern", features: [28, 34] }],
] as const)("a disk (%s)", (_, options) => {
  it("reads, writes, flushes, and gives its id", async () => {
    const { drive, file } = make();
    const driver = drive(options);
    const read = await ask(driver, [header(IN, 3n)], [100, 924, 1]);
    expect([read.status, read.length, read.data[0], read.data[1023]]).toEqual([OK, 1025, 3, 4]);
    const write = await ask(driver, [header(OUT, 8n), new Uint8Array(512).fill(0x5a)], [1]);
    expect([write.status, write.length]).toEqual([OK, 1]);
    expect([file.bytes[8 * 512 - 1], file.bytes[8 * 512], file.bytes[9 * 512]]).toEqual([
      7, 0x5a, 9,
    ]);
    expect((await ask(driver, [header(FLUSH)], [1])).status).toBe(OK);
    expect(file.requests.at(-1)?.operation).toBe("sync");
    const id = await ask(driver, [header(GET_ID)], [20, 1]);
    expect([id.status, Buffer.from(id.data).toString()]).toEqual([OK, "BHYVE-0123-4567-89AB"]);
  });

  it("discards and writes zeroes", async () => {
    const { drive, file } = make();
    const driver = drive(options);
    expect((await ask(driver, [header(DISCARD), range(2n, 4)], [1])).status).toBe(OK);
    expect(file.requests.at(-1)).toEqual({ operation: "discard", offset: 1024, length: 2048 });
    expect((await ask(driver, [header(WRITE_ZEROES), range(8n, 2)], [1])).status).toBe(OK);
    expect([file.bytes[8 * 512 - 1], file.bytes[8 * 512], file.bytes[10 * 512]]).toEqual([
      7, 0, 10,
    ]);
    expect((await ask(driver, [header(WRITE_ZEROES), range(8n, 2, 1)], [1])).status).toBe(OK);
    expect(file.requests.at(-1)?.operation).toBe("unmap");
    expect((await ask(driver, [header(DISCARD), range(8n, 2, 1)], [1])).status).toBe(UNSUPP);
    expect((await ask(driver, [header(WRITE_ZEROES), range(8n, 2, 2)], [1])).status).toBe(UNSUPP);
    expect((await ask(driver, [header(DISCARD), range(2n, 0x200001)], [1])).status).toBe(IOERR);

    const before = file.requests.length;
    const several = Buffer.concat([range(16n, 1), range(18n, 2), range(30n, 0)]);
    expect((await ask(driver, [header(WRITE_ZEROES), several], [1])).status).toBe(OK);
    expect([15, 16, 17, 18, 19, 20].map((sector) => file.bytes[sector * 512])).toEqual([
      ...[15, 0, 17, 0, 0, 20],
    ]);
    const oneOutside = Buffer.concat([range(20n, 1), range(2n ** 40n, 1)]);
    expect((await ask(driver, [header(WRITE_ZEROES), oneOutside], [1])).status).toBe(IOERR);
    expect(file.requests.length).toBe(before + 2);
  });
});

it("refuses what lies outside, is unaligned or unknown", async () => {
  const { drive, file } = make();
  const driver = drive();
  const status = async (readable: Uint8Array[], writable: number[]) =>
    (await ask(driver, readable, writable)).status;
  expect(await status([header(IN, 2048n)], [512, 1])).toBe(IOERR);
  expect(await status([header(IN, 2047n)], [1024, 1])).toBe(IOERR);
  expect(await status([header(IN, 2n ** 64n - 1n)], [512, 1])).toBe(IOERR);
  expect(await status([header(IN, 0n)], [511, 1])).toBe(IOERR);
  expect(await status([header(OUT, 2047n), new Uint8Array(1024)], [1])).toBe(IOERR);
  expect(await status([header(77)], [1])).toBe(UNSUPP);
  expect(await status([header(DISCARD), new Uint8Array(17)], [1])).toBe(IOERR);
  expect(file.requests).toEqual([]);
  driver.queue(0).send([new Uint8Array(15)], [1]);
  driver.queue(0).send([header(IN)], []);
  expect(
    driver
      .queue(0)
      .allUsed()
      .map(({ length }) => length),
  ).toEqual([0, 0]);
  expect(driver.status & 0x40).toBe(0);
});

it("of which nothing may be written says so and refuses writes", async () => {
  const { drive } = make({ readOnly: true });
  const driver = drive({ features: [5, 13, 14] });
  expect([driver.has(5), driver.has(13), driver.has(14)]).toEqual([true, false, false]);
  expect((await ask(driver, [header(OUT), new Uint8Array(512)], [1])).status).toBe(IOERR);
  expect((await ask(driver, [header(WRITE_ZEROES), range(0n, 1)], [1])).status).toBe(IOERR);
  expect((await ask(driver, [header(IN)], [512, 1])).status).toBe(OK);
});

it("shows its geometry", () => {
  const { drive } = make({ logicalSector: 1024, physicalSector: 4096, queues: 4 });
  const driver = drive({ features: [12] });
  const config = (at: number, size: number) => driver.config(at, size);
  expect([config(0, 4), config(4, 4), config(12, 4), config(20, 4)]).toEqual([2048, 0, 510, 1024]);
  expect([config(24, 1), config(32, 1), config(34, 2), config(36, 4)]).toEqual([2, 1, 4, 0x200000]);
  expect([config(40, 4), config(44, 4), config(52, 4), config(56, 1)]).toEqual([64, 2, 64, 1]);
  expect(driver.has(12)).toBe(true);
});

it("serves every queue, with many requests under way and vectors of their own", async () => {
  const { drive, file } = make({ queues: 2 });
  const driver = drive({ features: [12] });
  file.held = true;
  for (const queue of [0, 1])
    for (let i = 0; i < 20; i++) driver.queue(queue).send([header(IN, BigInt(i))], [512, 1]);
  await Promise.resolve();
  expect(file.requests.length).toBe(40);
  expect(driver.vectors).toEqual([]);
  file.release();
  await Promise.resolve();
  expect(driver.vectors.sort()).toEqual([1, 2]);
  const used = [0, 1].map((queue) => driver.queue(queue).allUsed());
  expect(used.map((all) => all.map(({ bytes }) => [bytes[0], bytes.at(-1)]))).toEqual(
    [0, 1].map(() => Array.from({ length: 20 }, (_, i) => [i, OK])),
  );
});

it("tells the operator of the host's errors, the guest of its own", async () => {
  const { drive, file, log } = make();
  file.errors.set("read", 5);
  expect((await ask(drive(), [header(IN, 1n)], [512, 1])).status).toBe(IOERR);
  expect(log).toEqual(["disk: request 0 at byte 512: the host's error 5"]);
});

it("a reset ends what is under way", async () => {
  const { drive, file } = make();
  file.held = true;
  const driver = drive();
  driver.queue(0).send([header(IN)], [512, 1]);
  await Promise.resolve();
  driver.status = 0;
  file.release();
  await Promise.resolve();
  expect([driver.queue(0).used(), driver.vectors]).toEqual([undefined, []]);
});

it("rests when everything has ended; what waits for room is done after a restore", async () => {
  const { host, drive, file, device } = make();
  const driver = drive();
  file.held = true;
  driver.queue(0).send([header(IN)], [512, 1]);
  const resting = device.rest();
  await Promise.resolve();
  file.release();
  file.held = false;
  await resting;
  expect(driver.queue(0).allUsed().length).toBe(1);
  device.wake();
  file.errors.set("write", 28); // ENOSPC
  driver.queue(0).send([header(OUT, 1n), new Uint8Array(512).fill(0x77)], [1]);
  await Promise.resolve();
  await device.rest();
  const saved = JSON.parse(JSON.stringify(device.save()));
  const other = make();
  other.host.memory.bytes.set(host.memory.bytes);
  other.device.restore(saved);
  other.device.wake();
  for (let i = 0; i < 8; i++) await Promise.resolve();
  expect(other.file.bytes[512]).toBe(0x77);
  host.memory.bytes.set(other.host.memory.bytes);
  expect(
    driver
      .queue(0)
      .allUsed()
      .map(({ bytes }) => bytes.at(-1)),
  ).toEqual([OK]);
});

it("has the original's serial number, and survives its registration", () => {
  const hash = createHash("sha256").update("/disk.img,ro").digest("hex").toUpperCase();
  expect(serialOf("/disk.img,ro")).toBe(
    `BHYVE-${hash.slice(0, 4)}-${hash.slice(4, 8)}-${hash.slice(8, 12)}`,
  );
  checkDevice(make().device);
});
