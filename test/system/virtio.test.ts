// Debian's kernel on virtio devices, by the command line: files that survive a reboot, randomness,
// a console; with MSI-X, without it (-W), on INTx (pci=nomsi), on the 8259 pair alone (noapic), and
// by the legacy interface.
import { execFileSync, spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { debianBusybox, debianKernel } from "../guest/debian.js";
import { buildInitrd } from "../guest/initrd.js";
import { projectRoot } from "../guest/paths.js";
import { virtioModules } from "../guest/virtio.js";

const DISK = 64 * 2 ** 20;
const LIMIT_MS = 400_000;
let folder: string;
let kernel: string;
let busybox: string;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "xhyved-virtio-"));
  kernel = await debianKernel();
  busybox = await debianBusybox();
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const inFolder = (name: string): string => join(folder, name);

/** A new ext4 file system. */
function makeDisk(name: string): string {
  const path = inFolder(name);
  writeFileSync(path, "");
  truncateSync(path, DISK);
  execFileSync("mkfs.ext4", ["-q", path]);
  return path;
}

interface Run {
  readonly output: string;
  readonly status: number | null;
}

/** Boots, runs the lines in the guest, powers it off. */
async function boot(
  lines: readonly string[],
  { flags = [] as string[], cmdline = "", parameters = {} } = {},
): Promise<Run> {
  const { files, script } = virtioModules(kernel);
  const initrd = inFolder("initrd.gz");
  const all = [script(parameters), "mkdir /mnt", ...lines, "poweroff -f"].join("\n");
  writeFileSync(initrd, buildInitrd({ busybox, files, script: all }));
  const boots = `kexec,${kernel},${initrd},console=ttyS0 quiet ${cmdline}`;
  const machine = ["-A", "-m", "256M", "-s", "0,hostbridge", "-s", "31,lpc", "-l", "com1,stdio"];
  const child = spawn(join(projectRoot, "bin", "xhyve"), [...machine, ...flags, "-f", boots], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  const timer = setTimeout(() => child.kill("SIGKILL"), LIMIT_MS);
  let output = "";
  child.stdout.on("data", (data) => {
    output += String(data);
  });
  child.stderr.on("data", (data) => {
    output += String(data);
  });
  const status = await new Promise<number | null>((done) => child.on("close", done));
  clearTimeout(timer);
  return { output: output.replaceAll("\r", ""), status };
}

const mount = "busybox mount -t ext4 /dev/vda /mnt";
const umount = "busybox umount /mnt";
const sums = (output: string): string[] =>
  [...output.matchAll(/^([0-9a-f]{32}) {2}\/mnt\/(\w+)$/gm)].map(
    ([, sum, name]) => `${name} ${sum}`,
  );

const ways: [string, Parameters<typeof boot>[1], RegExp][] = [
  ["MSI-X", {}, /PCI-MSI.*virtio0-req/],
  ["no MSI-X (-W)", { flags: ["-W"] }, /IO-APIC.*fasteoi.*virtio0/],
  ["pci=nomsi", { cmdline: "pci=nomsi" }, /IO-APIC.*fasteoi.*virtio0/],
  ["noapic", { cmdline: "noapic pci=nomsi" }, /XT-PIC.*virtio0/],
  [
    "the legacy interface",
    { parameters: { virtio_pci: "force_legacy=1" } },
    /PCI-MSI.*virtio0-req/,
  ],
];

describe.each(ways)("with %s", (name, options, interrupt) => {
  it("files are the same after a reboot, and there is randomness", async () => {
    const disk = makeDisk("disk.img");
    const devices = ["-s", `3,virtio-blk,${disk}`, "-s", "4,virtio-rnd"];
    const run = (lines: string[]) =>
      boot(lines, { ...options, flags: [...(options?.flags ?? []), ...devices] });
    const first = await run([
      mount,
      "busybox dd if=/dev/urandom of=/mnt/large bs=64k count=128",
      "busybox dd if=/dev/hwrng of=/mnt/random bs=512 count=8",
      "busybox sync",
      "md5sum /mnt/large /mnt/random",
      umount,
      "cat /proc/interrupts",
    ]);
    expect(first.output).toMatch(interrupt);
    const written = sums(first.output);
    expect(written.length, first.output).toBe(2);
    const second = await run([mount, "md5sum /mnt/large /mnt/random", umount]);
    expect(sums(second.output), name).toEqual(written);
    expect([first.status, second.status]).toEqual([1, 1]);
    execFileSync("e2fsck", ["-fn", disk], { stdio: "ignore" });
  });
});

describe("a disk", () => {
  it("has the serial number, sectors and queues that it should, and gives room back", async () => {
    const disk = makeDisk("disk.img");
    const { output } = await boot(
      [
        "for one in serial queue/physical_block_size queue/logical_block_size ro size; do",
        '  echo "$one=$(cat /sys/block/vda/$one)"',
        "done",
        `${mount} -o discard`,
        "busybox dd if=/dev/urandom of=/mnt/large bs=64k count=256",
        "busybox sync; rm /mnt/large; busybox sync; busybox fstrim -v /mnt",
        umount,
      ],
      { flags: ["-s", `3,virtio-blk,${disk},sectorsize=512/4096`] },
    );
    const hash = createHash("sha256").update(`${disk},sectorsize=512/4096`).digest("hex");
    const id = hash.toUpperCase().replace(/^(.{4})(.{4})(.{4}).*$/, "BHYVE-$1-$2-$3");
    expect(output).toContain(`serial=${id}`);
    expect(output).toContain("queue/physical_block_size=4096");
    expect(output).toContain("queue/logical_block_size=512");
    expect(output).toContain(`ro=0\nsize=${DISK / 512}`);
    const used = Number(execFileSync("du", ["--block-size=1", disk]).toString().split("\t")[0]);
    expect(used).toBeLessThan(12 * 2 ** 20);
  });

  it("that may not be written is not", async () => {
    const disk = makeDisk("disk.img");
    const before = createHash("md5").update(readFileSync(disk)).digest("hex");
    const { output } = await boot(
      ["cat /sys/block/vda/ro", "busybox dd if=/dev/zero of=/dev/vda count=1 || echo REFUSED"],
      { flags: ["-s", `3,virtio-blk,${disk},ro`] },
    );
    expect(output).toContain("REFUSED");
    expect(createHash("md5").update(readFileSync(disk)).digest("hex")).toBe(before);
  });

  it("that another VM has is refused before the start", async () => {
    const disk = makeDisk("disk.img");
    const flags = ["-s", `3,virtio-blk,${disk}`, "-s", `4,virtio-blk,${disk}`];
    const { output, status } = await boot([], { flags });
    expect([output, status]).toEqual([
      `xhyve: the disk image ${disk} is in use by another VM or a copy\n`,
      1,
    ]);
  });
});

it("a console carries what the guest writes", async () => {
  const file = inFolder("console.txt");
  const text = randomBytes(8).toString("hex");
  const { output } = await boot([`echo ${text} > /dev/hvc0`, "busybox sleep 1"], {
    flags: ["-s", `5,virtio-console,file=${file}`],
  });
  expect(readFileSync(file, "latin1"), output).toContain(text);
});
