import { constants } from "node:os";
import { expect, it } from "vitest";
import { FakeHost } from "../fakes.js";
import { geometryFault } from "./backend.js";
import { RawBackend } from "./raw.js";

const { ENOSPC, EIO } = constants.errno;
const FD = 5;
const geometry = { size: 8192, logicalSector: 512, physicalSector: 512, readOnly: false };

function make() {
  const host = new FakeHost();
  const file = host.io.put(FD, new Uint8Array(8192));
  const stalls: boolean[] = [];
  const onStall = (stalled: boolean): void => void stalls.push(stalled);
  const disk = new RawBackend({ file: host.io.file(FD), geometry, clock: host.clock, onStall });
  return { host, file, stalls, disk };
}

const settle = async (): Promise<void> => {
  for (let i = 0; i < 4; i++) await Promise.resolve();
};

it("moves bytes and says how it ended", async () => {
  const { host, file, disk } = make();
  const ends: number[] = [];
  host.memory.bytes.fill(9, 0, 512);
  disk.write(1024, 512, [0, 512], (errno) => ends.push(errno));
  disk.flush((errno) => ends.push(errno));
  disk.discard(0, 512, (errno) => ends.push(errno));
  disk.writeZeroes(0, 512, true, (errno) => ends.push(errno));
  disk.writeZeroes(0, 512, false, (errno) => ends.push(errno));
  await disk.idle();
  expect([ends, file.bytes[1024], file.bytes[1023]]).toEqual([[0, 0, 0, 0, 0], 9, 0]);
  expect(file.requests.map(({ operation }) => operation)).toEqual([
    "write",
    "sync",
    "discard",
    "unmap",
    "zero",
  ]);
  file.errors.set("read", EIO);
  disk.read(0, 512, [0, 512], (errno) => ends.push(errno));
  await disk.idle();
  expect(ends.at(-1)).toBe(EIO);
});

it("a full host makes writes wait until there is room", async () => {
  const { host, file, stalls, disk } = make();
  const ends: number[] = [];
  file.errors.set("write", ENOSPC);
  host.memory.bytes.fill(7, 0, 1024);
  for (const at of [0, 512]) disk.write(at, 512, [at, 512], (errno) => ends.push(errno));
  await disk.idle();
  expect([ends, stalls]).toEqual([[], [true]]);
  host.clock.advance(1_500_000_000n); // still full
  await settle();
  expect([ends, stalls, file.requests.length]).toEqual([[], [true], 4]);
  disk.read(4096, 512, [4096, 512], (errno) => ends.push(errno));
  await disk.idle();
  expect(ends).toEqual([0]); // reading goes on
  file.errors.clear();
  host.clock.advance(2_000_000_000n);
  await settle();
  expect([ends, stalls, file.bytes[0], file.bytes[1023]]).toEqual([[0, 0, 0], [true, false], 7, 7]);
});

it("forgets everything at a cancel, what waits for room too", async () => {
  const { host, file, stalls, disk } = make();
  let ends = 0;
  file.errors.set("write", ENOSPC);
  disk.write(0, 512, [0, 512], () => ends++);
  await settle();
  file.errors.clear();
  file.held = true;
  disk.write(512, 512, [0, 512], () => ends++);
  disk.cancel();
  file.release();
  host.clock.advance(5_000_000_000n);
  await settle();
  expect([ends, stalls]).toEqual([0, [true, false]]);
  await disk.idle();
  disk.close();
  expect(file.closed).toBe(true);
});

it.each([
  [{ size: 8192, logicalSector: 512, physicalSector: 4096 }, undefined],
  [{ size: 8192, logicalSector: 4096, physicalSector: 4096 }, undefined],
  [{ size: 0, logicalSector: 512, physicalSector: 512 }, /empty/],
  [{ size: 8193, logicalSector: 512, physicalSector: 512 }, /no multiple/],
  [{ size: 8192, logicalSector: 768, physicalSector: 768 }, /powers of two/],
  [{ size: 8192, logicalSector: 4096, physicalSector: 512 }, /smaller/],
  [{ size: 8192, logicalSector: 256, physicalSector: 512 }, /from 512/],
])("judges the geometry %o", (one, fault) => {
  if (fault === undefined) expect(geometryFault(one)).toBe(undefined);
  else expect(geometryFault(one)).toMatch(fault);
});
