import { mkdtempSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { host } from "../native/host.js";
import type { OpenDisk } from "./disks/types.js";
import { OpenDisks, openDisk } from "./disks.js";

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

const lock = (fd: number, shared: boolean): boolean => host().lockFile(fd, shared);
const disk = (more: object = {}) => ({ slot: "3:0", type: "virtio-blk" as const, path, ...more });
async function open(more: object = {}): Promise<OpenDisk> {
  const one = await openDisk(disk(more), lock);
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
        `the disk image ${path} is in use by another VM`,
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
    await expect(OpenDisks.open([disk(), missing], lock)).rejects.toThrow("missing");
    (await OpenDisks.open([disk()], lock)).close();
    await open();
  });
});
