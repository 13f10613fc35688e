import { expect, it } from "vitest";
import { FakeHost } from "../fakes.js";
import { random } from "./fake-storage.js";
import { RawBackend } from "./raw.js";
import { ScratchBackend } from "./scratch.js";

const SIZE = 64 * 1024;

it("reads what was written over the base, which stays as it is", async () => {
  const host = new FakeHost(SIZE);
  const geometry = { size: SIZE, logicalSector: 512, physicalSector: 512, readOnly: true };
  const { clock } = host;
  const below = host.io.put(1, new Uint8Array(SIZE).fill(9));
  const base = new RawBackend({ file: below, geometry, clock });
  const disk = new ScratchBackend({ base, file: host.io.put(2, new Uint8Array(SIZE)), clock });
  expect(disk.geometry.readOnly).toBe(false);
  const run = (start: (done: (errno: number) => void) => void): Promise<number> =>
    new Promise(start);
  const model = new Uint8Array(SIZE).fill(9);
  const chance = random(3);
  for (let i = 0; i < 200; i++) {
    const offset = 512 * chance(100);
    const length = 512 * (1 + chance(28));
    const kind = chance(4);
    host.memory.bytes.fill(i, 0, length);
    if (kind < 2) {
      model.fill(i, offset, offset + length);
      expect(await run((done) => disk.write(offset, length, [0, length], done))).toBe(0);
    } else if (kind === 2) {
      model.fill(0, offset, offset + length);
      expect(await run((done) => disk.writeZeroes(offset, length, true, done))).toBe(0);
    } else expect(await run((done) => disk.discard(offset, length, done))).toBe(0);
    expect(await run((done) => disk.read(0, SIZE, [0, SIZE], done))).toBe(0);
    expect(Buffer.compare(host.memory.bytes, model)).toBe(0);
  }
  expect(await run((done) => disk.flush(done))).toBe(0);
  expect(below.bytes.every((byte) => byte === 9)).toBe(true);
  disk.close();
  expect(below.closed).toBe(true);
});
