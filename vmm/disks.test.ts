import {
  closeSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createImage, type NewImage } from "../devices/block/qcow2/create.js";
import { host } from "../native/host.js";
import { imageBytes } from "./disks/file.js";
import type { OpenDisk } from "./disks/types.js";
import { OpenDisks, openDisk } from "./disks.js";
import { namedFiles } from "./host-files.js";

let folder: string;
let path: string;
const opened: OpenDisk[] = [];
const closeAll = (): void => {
  for (const one of opened.splice(0)) one.close();
};
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "xhyved-disks-"));
  path = join(folder, "disk.img");
  writeFileSync(path, Buffer.alloc(8192));
});
afterEach(() => {
  closeAll();
  rmSync(folder, { recursive: true });
});

const files = namedFiles((fd, shared) => host().lockFile(fd, shared));
const disk = (more: object = {}) => ({ slot: "3:0", type: "virtio-blk" as const, path, ...more });
async function open(more: object = {}): Promise<OpenDisk> {
  const one = await openDisk(disk(more), files);
  opened.push(one);
  return one;
}

describe("an image", () => {
  it("has the sizes of the definition", async () => {
    expect((await open()).geometry).toEqual({
      size: 8192,
      logicalSector: 512,
      physicalSector: 512,
      readOnly: false,
    });
    closeAll();
    const sizes = { logicalSector: 512, physicalSector: 4096 };
    expect((await open({ ...sizes, readOnly: true })).geometry).toEqual({
      size: 8192,
      ...sizes,
      readOnly: true,
    });
  });

  it("is one VM's alone, or only read by several", async () => {
    await open();
    for (const readOnly of [false, true])
      await expect(open({ readOnly })).rejects.toThrow(
        `the disk image ${path} is in use by another VM or a copy`,
      );
    closeAll();
    await open({ readOnly: true });
    await open({ readOnly: true });
    await expect(open()).rejects.toThrow("in use");
  });

  it.each([
    ["missing", () => rmSync(path), {}, /no such file or directory/i],
    ["empty", () => truncateSync(path, 0), {}, /it is empty/],
    ["truncated", () => truncateSync(path, 8191), {}, /no multiple of the sector size 512/],
    ["misaligned", () => truncateSync(path, 7168), { logicalSector: 4096 }, /no multiple/],
    ["of odd sectors", () => {}, { logicalSector: 768 }, /powers of two/],
    [
      "a qcow2",
      () => writeFileSync(path, Buffer.from(`QFI\xfb${"x".repeat(508)}`, "latin1")),
      {},
      /qcow2/,
    ],
  ])("that is %s is refused and left alone", async (_, spoil, more, message) => {
    spoil();
    const before = statSync(path, { throwIfNoEntry: false })?.size;
    await expect(open(more)).rejects.toThrow(message);
    expect(statSync(path, { throwIfNoEntry: false })?.size).toBe(before);
  });

  it("that is a folder or a character device is refused", async () => {
    await expect(open({ path: folder, readOnly: true })).rejects.toThrow("neither a file nor");
    await expect(open({ path: "/dev/zero" })).rejects.toThrow("neither a file nor");
  });

  it("is let go where another of the same definition fails", async () => {
    const missing = { ...disk(), slot: "4:0", path: join(folder, "missing") };
    await expect(OpenDisks.open([disk(), missing], files)).rejects.toThrow("missing");
    (await OpenDisks.open([disk()], files)).close();
    await open();
  });
});

describe("a qcow2 image", () => {
  const create = (options: Partial<NewImage> = {}, name = "disk.qcow2"): string => {
    const image = join(folder, name);
    const fd = openSync(image, "w+");
    createImage(imageBytes(fd), { size: 2 ** 20, clusterSize: 4096, ...options });
    closeSync(fd);
    return image;
  };
  const qcow2 = (more: object = {}) => ({
    path: join(folder, "disk.qcow2"),
    format: "qcow2",
    ...more,
  });
  /** Sets a 64-bit field of the header, or an entry of a table. */
  const poke = (at: number, value: bigint): void => {
    const image = join(folder, "disk.qcow2");
    const bytes = readFileSync(image);
    bytes.writeBigUInt64BE(value, at);
    writeFileSync(image, bytes);
  };
  const L1 = 3 * 4096;

  it("has the size that it says, alone or over what the definition names", async () => {
    create();
    expect((await open(qcow2())).geometry.size).toBe(2 ** 20);
    await expect(open(qcow2())).rejects.toThrow("in use");
    create({ backing: { path: "/elsewhere", format: "raw" } }, "over.qcow2");
    const over = { path: join(folder, "over.qcow2"), format: "qcow2" };
    await open({ ...over, backing: [{ path, format: "raw" }] });
    await expect(open({ path })).rejects.toThrow("in use"); // by a reader
  });

  it.each<[string, () => void, object, RegExp]>([
    ["without its format", () => {}, { format: undefined }, /it is a qcow2 image; format/],
    [
      "as a backing of raw",
      () => {},
      { format: "raw", backing: [{ path: "x", format: "raw" }] },
      /only a qcow2/,
    ],
    ["that is cut off", () => truncateSync(join(folder, "disk.qcow2"), 40), {}, /shorter than/],
    [
      "whose L1 table is cut off",
      () => truncateSync(join(folder, "disk.qcow2"), L1),
      {},
      /outside the file/,
    ],
    ["that is no qcow2", () => poke(0, 0n), {}, /no qcow2 image/],
    ["of version 4", () => poke(0, 0x514649fb00000004n), {}, /version 4/],
    ["that is encrypted", () => poke(32, 0x0000000100000001n), {}, /encrypted/],
    ["with its data elsewhere", () => poke(72, 4n), {}, /another file/],
    ["with subclusters", () => poke(72, 16n), {}, /subclusters/],
    ["with unknown features", () => poke(72, 1n << 40n), {}, /not known here/],
    ["that is marked corrupt", () => poke(72, 2n), {}, /marked as corrupt/],
    ["of absurd clusters", () => poke(20, 0x0000003f00000000n), {}, /cluster size/],
    ["of an absurd size", () => poke(24, 1n << 60n), {}, /8 PiB/],
    ["larger than its tables", () => poke(24, 1n << 45n), {}, /too small for its size/],
    ["whose L1 table lies over its header", () => poke(40, 0n), {}, /lies over something else/],
    ["whose L1 table is misaligned", () => poke(40, 4097n), {}, /not at the begin of a cluster/],
    ["whose L2 table is outside", () => poke(L1, 1n << 40n), {}, /outside the file/],
    ["whose L2 table is its L1 table", () => poke(L1, BigInt(L1)), {}, /lies over something else/],
    ["whose refcounts lie", () => poke(2 * 4096, 0n), {}, /refcounts are too low/],
    [
      "over an unnamed image",
      () => create({ backing: { path: "/etc/shadow", format: "raw" } }),
      {},
      /lies over \/etc\/shadow, which/,
    ],
    [
      "over none, with a backing",
      () => {},
      { backing: [{ path: "/x", format: "raw" }] },
      /lies over none/,
    ],
    [
      "over a missing image",
      () => create({ backing: { path: "/x", format: "raw" } }),
      { backing: [{ path: "/missing", format: "raw" }] },
      /missing cannot be used/,
    ],
    ["past the page cache", () => {}, { direct: true }, /only raw images/],
    [
      "with a scratch folder that is none",
      () => {},
      { scratch: "/missing" },
      /missing.*no such file/,
    ],
  ])("%s is refused and left alone", async (_, spoil, more, message) => {
    create();
    spoil();
    const image = join(folder, "disk.qcow2");
    const before = readFileSync(image);
    await expect(open(qcow2(more))).rejects.toThrow(message);
    expect(readFileSync(image).equals(before)).toBe(true);
  });

  it("of random bytes in its tables opens or is refused, soon and unchanged", async () => {
    const image = create();
    const good = readFileSync(image);
    let seed = 12345;
    const chance = (below: number): number => {
      seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
      return (seed >>> 8) % below;
    };
    for (let i = 0; i < 300; i++) {
      const bytes = Buffer.from(good);
      for (let flips = 1 + chance(6); flips > 0; flips--) {
        const area = [0, 4096, 2 * 4096, L1][chance(4)] ?? 0;
        bytes[area + chance(112)] = chance(256);
      }
      writeFileSync(image, bytes);
      const result = await openDisk(disk(qcow2()), files).catch((error: Error) => error);
      if (result instanceof Error) expect(result).toMatchObject({ code: "IMAGE_UNUSABLE" });
      else result.close();
      expect(readFileSync(image).equals(bytes)).toBe(true);
    }
  });
});

it("an NBD server that is not there is refused", async () => {
  const nbd = { path: join(folder, "socket"), format: "nbd" };
  await expect(open(nbd)).rejects.toThrow(/no NBD server listens/);
  await expect(open({ ...nbd, path })).rejects.toThrow(/no NBD server listens/);
  await expect(open({ path, export: "x" })).rejects.toThrow("only nbd has an export");
});
