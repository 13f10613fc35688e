import { closeSync, mkdtempSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { host } from "../native/host.js";
import { OpenDisks, openDisk } from "./disks.js";

let folder: string;
let path: string;
const fds: number[] = [];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "xhyved-disks-"));
  path = join(folder, "disk.img");
  writeFileSync(path, Buffer.alloc(8192));
});
afterEach(() => {
  for (const fd of fds.splice(0)) closeSync(fd);
  rmSync(folder, { recursive: true });
});

const lock = (fd: number, shared: boolean): boolean => host().lockFile(fd, shared);
const disk = (more: object = {}) => ({ slot: "3:0", type: "virtio-blk" as const, path, ...more });
function open(more: object = {}) {
  const opened = openDisk(disk(more), lock);
  fds.push(opened.fd);
  return opened;
}

describe("an image", () => {
  it("has the sizes of the definition", () => {
    expect(open().geometry).toEqual({
      size: 8192,
      logicalSector: 512,
      physicalSector: 512,
      readOnly: false,
    });
    fds.splice(0).forEach(closeSync);
    const sizes = { logicalSector: 512, physicalSector: 4096 };
    expect(open({ ...sizes, readOnly: true }).geometry).toEqual({
      size: 8192,
      ...sizes,
      readOnly: true,
    });
  });

  it("is one VM's alone, or only read by several", () => {
    open();
    for (const readOnly of [false, true])
      expect(() => open({ readOnly })).toThrow(`the disk image ${path} is in use by another VM`);
    fds.splice(0).forEach(closeSync);
    open({ readOnly: true });
    open({ readOnly: true });
    expect(() => open()).toThrow("in use");
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
  ])("that is %s is refused and left alone", (_, spoil, more, message) => {
    spoil();
    const before = statSync(path, { throwIfNoEntry: false })?.size;
    expect(() => open(more)).toThrow(message);
    expect(statSync(path, { throwIfNoEntry: false })?.size).toBe(before);
  });

  it("that is a folder or a character device is refused", () => {
    expect(() => open({ path: folder, readOnly: true })).toThrow("neither a file nor");
    expect(() => open({ path: "/dev/zero" })).toThrow("neither a file nor");
  });

  it("is let go where another of the same definition fails", () => {
    const missing = { ...disk(), slot: "4:0", path: join(folder, "missing") };
    expect(() => new OpenDisks([disk(), missing], lock)).toThrow("missing");
    new OpenDisks([disk()], lock).close();
    open();
  });
});
