import { constants } from "node:os";
import { describe, expect, it } from "vitest";
import { type Random, random } from "../fake-storage.js";
import { RawBackend } from "../raw.js";
import type { NewImage } from "./create.js";
import { History } from "./history.js";
import { openImage } from "./open.js";
import { Qcow2Rig, stamped } from "./rig.js";

const KIB = 1024;

interface Variant {
  readonly name: string;
  readonly image: NewImage;
  /** Bytes of a raw image below. */
  readonly below?: number;
}

const VARIANTS: readonly Variant[] = [
  { name: "version 3, clusters of 4 KiB", image: { size: 512 * KIB, clusterSize: 4096 } },
  { name: "version 3, clusters of 512", image: { size: 256 * KIB, clusterSize: 512 } },
  { name: "version 2", image: { size: 300 * KIB, clusterSize: 2048, version: 2 } },
  { name: "over another", image: { size: 512 * KIB, clusterSize: 4096 }, below: 320 * KIB },
  {
    name: "version 2 over another",
    image: { size: 256 * KIB, clusterSize: 1024, version: 2 },
    below: 128 * KIB,
  },
  { name: "clusters of 64 KiB, a ragged end", image: { size: 500 * KIB + 512 } },
];

function build({ image, below }: Variant, chance: Random): { rig: Qcow2Rig; first: Uint8Array } {
  const first = new Uint8Array(image.size);
  let under: RawBackend | undefined;
  const rig: Qcow2Rig = new Qcow2Rig(chance, image, {
    get geometry() {
      return underOf().geometry;
    },
    read: (...all) => underOf().read(...all),
    write: () => {
      throw new Error("the lower image is only read");
    },
    flush: () => {},
    discard: () => {},
    writeZeroes: () => {},
    cancel: () => underOf().cancel(),
    idle: () => underOf().idle(),
    close: () => {},
  });
  const underOf = (): RawBackend => {
    const size = below ?? 0;
    if (under === undefined) {
      const bytes = stamped(size, 77);
      first.set(bytes.subarray(0, Math.min(size, image.size)));
      under = new RawBackend({
        file: rig.host.io.put(9, bytes),
        clock: rig.host.clock,
        geometry: { size, logicalSector: 512, physicalSector: 512, readOnly: true },
      });
    }
    return under;
  };
  underOf();
  return { rig, first };
}

describe.each(VARIANTS)("an image: $name", (variant) => {
  it("holds what was written, now and when it is opened again", async () => {
    for (let seed = 1; seed <= 6; seed++) {
      const chance = random(seed);
      const { rig, first } = build(variant, chance);
      const history = new History(rig, chance, first);
      for (let round = 0; round < 3; round++) {
        await history.run({ operations: 60, together: 12, cancels: seed % 2 === 0 });
        await rig.disk.idle();
        history.check(await rig.readAll());
        rig.close();
        const { contents, header } = openImage(rig.storage, { readOnly: false });
        expect([contents?.wrong, header.incompatible], `seed ${seed}`).toEqual([[], 0]);
        history.check(await rig.readAll());
      }
      rig.close();
    }
  });

  it("loses nothing that was flushed when the power goes", async () => {
    for (let seed = 1; seed <= 8; seed++) {
      const chance = random(1000 * seed);
      const { rig, first } = build(variant, chance);
      rig.storage.settle();
      const history = new History(rig, chance, first);
      await history.run({ operations: 80, together: 10 });
      rig.close();
      for (let cut = 0; cut < 21; cut++) {
        const time = chance(rig.storage.time + 1);
        const { rig: after } = build(variant, chance);
        after.storage.bytes = rig.storage.lostPowerAt(time, chance);
        expect(
          openImage(after.storage, { readOnly: false, strict: true }).l1.length,
        ).toBeGreaterThan(0);
        history.checkAfterLoss(await after.readAll(), time);
        after.close();
      }
    }
  });
});

it("waits where the host is full, says so, and goes on", async () => {
  const rig = new Qcow2Rig(random(5), { size: 512 * KIB, clusterSize: 4096 });
  await rig.write(0, stamped(4096, 1));
  rig.storage.errors.set("write", constants.errno.ENOSPC);
  let ended = 0;
  const writes = [1, 20, 40].map(async (cluster) => {
    await rig.write(4096 * cluster, stamped(4096, 2));
    ended++;
  });
  await rig.disk.idle(); // nothing is under way but what waits
  expect([ended, rig.stalls]).toEqual([0, [true]]);
  expect(await rig.read(0, 512)).toEqual(stamped(512, 1));
  rig.storage.errors.clear();
  rig.host.clock.advance(2_000_000_000n);
  await Promise.all(writes);
  expect(rig.stalls).toEqual([true, false]);
  expect(await rig.read(4096 * 40, 4096)).toEqual(stamped(4096, 2));
  rig.close();
  openImage(rig.storage, { readOnly: false, strict: true });
});

it("writes what is new side by side at once: the bytes, then their table", async () => {
  const rig = new Qcow2Rig(random(6), { size: 512 * KIB, clusterSize: 4096 });
  await rig.write(0, stamped(4096, 1)); // makes the table, and takes clusters ahead
  await rig.flush();
  rig.storage.operations.length = 0;
  // From the middle of a cluster to the middle of one.
  await rig.write(4096 + 512, stamped(64 * 4096, 2));
  expect(rig.storage.operations).toEqual(["write", "write"]);
  expect(await rig.read(4096, 512)).toEqual(stamped(512, 0));
  expect(await rig.read(4096 + 512, 64 * 4096)).toEqual(stamped(64 * 4096, 2));
  expect(await rig.read(65 * 4096 + 512, 512)).toEqual(stamped(512, 0));
  rig.close();
  openImage(rig.storage, { readOnly: false, strict: true });
});

it("gives all of them back where their bytes cannot be written", async () => {
  const rig = new Qcow2Rig(random(7), { size: 512 * KIB, clusterSize: 4096 });
  await rig.write(0, stamped(4096, 1));
  rig.storage.errors.set("write", constants.errno.EIO);
  await expect(rig.write(4096, stamped(16 * 4096, 2))).rejects.toThrow(`${constants.errno.EIO}`);
  rig.storage.errors.clear();
  expect(await rig.read(4096, 16 * 4096)).toEqual(stamped(16 * 4096, 0));
  await rig.write(4096, stamped(16 * 4096, 3));
  expect(await rig.read(4096, 16 * 4096)).toEqual(stamped(16 * 4096, 3));
  rig.close();
  openImage(rig.storage, { readOnly: false, strict: true });
});
