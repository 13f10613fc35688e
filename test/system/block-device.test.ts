// A block device of the host as a disk: a loop device, so that what the guest does to it can be seen in
// the file behind.
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { host } from "../../native/host.js";
import type { OpenDisk } from "../../vmm/disks/types.js";
import { openDisk } from "../../vmm/disks.js";
import { namedFiles } from "../../vmm/host-files.js";
import { ForegroundGuest } from "../guest/foreground.js";

const SIZE = 64 * 2 ** 20;
const SECTOR = 4096;

const run = (program: string, ...args: string[]): string =>
  execFileSync(program, args, { encoding: "utf8" }).trim();

/** A container may have the command, and not the devices or the right to them. */
function hasLoopDevices(): boolean {
  const probe = join(mkdtempSync(join(tmpdir(), "xhyved-loop-")), "probe.img");
  try {
    writeFileSync(probe, Buffer.alloc(65536));
    run("losetup", "--detach", run("losetup", "--find", "--show", probe));
    return true;
  } catch {
    return false;
  } finally {
    rmSync(dirname(probe), { recursive: true });
  }
}

let folder: string;
const attached: string[] = [];
const opened: OpenDisk[] = [];
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "xhyved-loop-"));
});
afterEach(() => {
  for (const one of opened.splice(0)) one.close();
  for (const device of attached.splice(0)) run("losetup", "--detach", device);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function attach(name: string, sector: number): { device: string; file: string } {
  const file = join(folder, name);
  writeFileSync(file, "");
  truncateSync(file, SIZE);
  const device = run("losetup", "--find", "--show", "--sector-size", String(sector), file);
  attached.push(device);
  return { device, file };
}

async function open(path: string, more: object = {}): Promise<OpenDisk> {
  const files = namedFiles((fd, shared) => host().lockFile(fd, shared));
  const disk = await openDisk({ path, ...more }, files);
  opened.push(disk);
  return disk;
}

async function guest(disk: string, lines: readonly string[]): Promise<string> {
  const one = await ForegroundGuest.start({ folder, lines, flags: ["-s", `3,virtio-blk,${disk}`] });
  expect(await one.end(500), one.output).toBe(1);
  expect(one.output).not.toMatch(/I\/O error|EXT4-fs error|Call Trace/);
  return one.output;
}

describe.runIf(hasLoopDevices())("a block device", () => {
  it("has its own size and sectors, past the page cache too", async () => {
    const { device } = attach("own.img", SECTOR);
    const own = { size: SIZE, logicalSector: SECTOR, physicalSector: SECTOR, readOnly: false };
    expect((await open(device)).geometry).toEqual(own);
    opened.pop()?.close();
    expect((await open(device, { direct: true })).geometry).toEqual(own);
    opened.pop()?.close();
    expect((await open(device, { logicalSector: 512 })).geometry).toMatchObject({
      logicalSector: 512,
    });
    opened.pop()?.close();
    await expect(open(device, { logicalSector: 512, direct: true })).rejects.toThrow(
      `direct needs a logicalSector of ${SECTOR}`,
    );
  });

  it("is one VM's alone, and not the host's", async () => {
    const { device } = attach("held.img", 512);
    run("mkfs.ext4", "-q", device);
    await open(device);
    await expect(open(device)).rejects.toMatchObject({ code: "IMAGE_LOCKED" });
    await expect(open(device, { readOnly: true })).rejects.toMatchObject({ code: "IMAGE_LOCKED" });
    opened.pop()?.close();
    const mounted = join(folder, "mounted");
    mkdirSync(mounted);
    run("mount", device, mounted);
    try {
      await expect(open(device)).rejects.toThrow("the host itself uses it");
    } finally {
      run("umount", mounted);
    }
    expect((await open(device)).geometry.size).toBe(SIZE);
  });

  it.each(["", ",direct"])("keeps what a guest writes, and discards%s", async (option) => {
    const { device, file } = attach(`guest${option}.img`, SECTOR);
    run("mkfs.ext4", "-q", device);
    const blocks = (): number => statSync(file).blocks;
    const written = await guest(`${device}${option}`, [
      "echo sectors $(cat /sys/block/vda/queue/logical_block_size) $(cat /sys/block/vda/size)",
      "busybox mount -t ext4 /dev/vda /mnt",
      "busybox dd if=/dev/urandom of=/mnt/kept bs=64k count=16",
      "busybox dd if=/dev/urandom of=/mnt/gone bs=64k count=320; busybox sync",
      "md5sum /mnt/kept; busybox umount /mnt",
    ]);
    expect(written).toContain(`sectors ${SECTOR} ${SIZE / 512}`);
    run("blockdev", "--flushbufs", device);
    const [sum] = /^[0-9a-f]{32}/m.exec(written) ?? [];
    const full = blocks();
    const trimmed = await guest(`${device}${option}`, [
      "busybox mount -t ext4 /dev/vda /mnt",
      "busybox rm /mnt/gone; busybox sync; busybox fstrim /mnt",
      "md5sum /mnt/kept; busybox umount /mnt",
    ]);
    expect(trimmed).toContain(String(sum));
    run("sync", file);
    expect(full - blocks()).toBeGreaterThan((16 * 2 ** 20) / 512);
    run("e2fsck", "-fn", device);
  });
});
