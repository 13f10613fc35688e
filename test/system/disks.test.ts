// Debian's kernel with an ext4 on each kind of disk: files that are the same after a reboot, in an
// image that other programs find whole.
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import { ForegroundGuest } from "../guest/foreground.js";
import { listening } from "../guest/listening.js";

const SIZE = 64 * 2 ** 20;
let folder: string;
const servers: ChildProcess[] = [];
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "xhyved-disks-"));
});
afterEach(() => {
  for (const server of servers.splice(0)) server.kill("SIGKILL");
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const path = (name: string): string => join(folder, name);

function makeRaw(name: string): string {
  writeFileSync(path(name), "");
  truncateSync(path(name), SIZE);
  execFileSync("mkfs.ext4", ["-q", path(name)]);
  return path(name);
}

function makeQcow2(name: string, ...options: string[]): string {
  const from = makeRaw(`${name}.raw`);
  execFileSync("qemu-img", ["convert", "-f", "raw", "-O", "qcow2", ...options, from, path(name)]);
  return path(name);
}

async function serve(program: string, ...args: string[]): Promise<string> {
  const socket = path("nbd.sock");
  rmSync(socket, { force: true });
  servers.push(
    spawn(
      program,
      args.map((arg) => arg.replace("SOCKET", socket)),
      { stdio: "ignore" },
    ),
  );
  await listening(socket);
  return socket;
}

const sums = (output: string): string[] =>
  [...output.matchAll(/^([0-9a-f]{32}) {2}(\/mnt\/\w+)$/gm)].map(
    ([, sum, name]) => `${name} ${sum}`,
  );

async function guest(disk: string, lines: readonly string[]): Promise<string> {
  const flags = ["-s", `3,virtio-blk,${disk}`];
  const mounted = [
    "busybox mount -t ext4 -o discard /dev/vda /mnt",
    ...lines,
    "busybox umount /mnt",
  ];
  const one = await ForegroundGuest.start({ folder, lines: mounted, flags });
  expect(await one.end(500), one.output).toBe(1);
  expect(one.output).not.toMatch(/I\/O error|EXT4-fs error|Call Trace/);
  return one.output;
}

const WRITES = [
  "busybox dd if=/dev/urandom of=/mnt/large bs=64k count=160",
  "for i in 1 2 3 4 5 6; do busybox dd if=/mnt/large of=/mnt/part$i bs=4k count=50 skip=$((i*37)) conv=fsync; done",
  "busybox rm /mnt/part3; busybox fstrim /mnt; busybox sync",
];
const SUMS = "md5sum /mnt/large /mnt/part1 /mnt/part6";

/** Writes, reboots, and finds the same. */
async function staysTheSame(disk: string): Promise<void> {
  const first = sums(await guest(disk, [...WRITES, SUMS]));
  expect(first.length).toBe(3);
  expect(sums(await guest(disk, [SUMS]))).toEqual(first);
}

const wholeExt4 = (raw: string): void =>
  void execFileSync("e2fsck", ["-fn", raw], { stdio: "ignore" });
const wholeQcow2 = (image: string): void => {
  execFileSync("qemu-img", ["check", "-f", "qcow2", image], { stdio: "ignore" });
  execFileSync("qemu-img", ["convert", "-f", "qcow2", "-O", "raw", image, path("out.raw")]);
  wholeExt4(path("out.raw"));
};
const digest = (file: string): string => createHash("md5").update(readFileSync(file)).digest("hex");

it("a qcow2 image, compressed at first", async () => {
  const image = makeQcow2("disk.qcow2", "-c");
  await staysTheSame(`${image},format=qcow2`);
  wholeQcow2(image);
});

it("a qcow2 image over another one", async () => {
  const base = makeQcow2("base.qcow2");
  const before = digest(base);
  const over = path("over.qcow2");
  const args = ["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, over];
  execFileSync("qemu-img", args);
  await staysTheSame(`${over},format=qcow2,backing=qcow2:${base}`);
  wholeQcow2(over);
  expect(digest(base)).toBe(before);
});

it("a scratch file over an image that stays as it is", async () => {
  const base = makeRaw("base.img");
  const before = digest(base);
  const disk = `${base},scratch=${folder}`;
  expect(sums(await guest(disk, [...WRITES, SUMS])).length).toBe(3);
  expect(sums(await guest(disk, [SUMS]))).toEqual([]);
  expect(digest(base)).toBe(before);
});

it("a raw image past the page cache", async () => {
  const image = makeRaw("direct.img");
  const supported = spawnSync("dd", [
    `if=${image}`,
    "of=/dev/null",
    "iflag=direct",
    "bs=512",
    "count=1",
  ]);
  if (supported.status === 0) await staysTheSame(`${image},nocache`);
  else await expect(guest(`${image},nocache`, [])).rejects.toThrow("past the page cache");
});

it("qemu-nbd and nbdkit", async () => {
  const image = makeQcow2("served.qcow2");
  const qemu = await serve("qemu-nbd", "-f", "qcow2", "-t", "-e", "4", "-k", "SOCKET", image);
  await staysTheSame(`${qemu},format=nbd`);
  for (const server of servers.splice(0)) {
    const gone = new Promise((resolve) => server.once("exit", resolve));
    server.kill("SIGTERM");
    await gone;
  }
  wholeQcow2(image);
  const raw = makeRaw("served.img");
  const kit = await serve("nbdkit", "-f", "-U", "SOCKET", "file", raw);
  await staysTheSame(`${kit},format=nbd`);
  wholeExt4(raw);
});
