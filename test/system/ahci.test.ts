// Debian's kernel on AHCI: disks that keep what is written, queued and trimmed, eight ports, a CD;
// with MSI, on INTx (pci=nomsi), on the 8259 pair alone (noapic), and without ACPI.
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { debianBusybox, debianKernel } from "../guest/debian.js";
import { dmesgProblems } from "../guest/dmesg.js";
import { withLibraries } from "../guest/elf.js";
import { buildInitrd } from "../guest/initrd.js";
import { AHCI_MODULES, guestModules } from "../guest/modules.js";
import { projectRoot } from "../guest/paths.js";

const DISK = 64 * 2 ** 20;
const LIMIT_MS = 500_000;
let folder: string;
let kernel: string;
let busybox: string;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "xhyved-ahci-"));
  kernel = await debianKernel("linux-image-amd64");
  busybox = await debianBusybox();
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const inFolder = (name: string): string => join(folder, name);

/** A new ext4 file system, or zeros. */
function makeDisk(name: string, { size = DISK, format = true } = {}): string {
  const path = inFolder(name);
  writeFileSync(path, "");
  truncateSync(path, size);
  if (format) execFileSync("mkfs.ext4", ["-q", path]);
  return path;
}

interface Run {
  readonly output: string;
  readonly status: number | null;
}

interface How {
  readonly flags?: readonly string[];
  readonly cmdline?: string;
  readonly acpi?: boolean;
  readonly files?: Readonly<Record<string, Buffer>>;
}

/** Boots, runs the lines in the guest, powers it off. */
async function boot(
  lines: readonly string[],
  { flags = [], cmdline = "", acpi = true, files = {} }: How = {},
): Promise<Run> {
  const modules = guestModules(kernel, AHCI_MODULES);
  const initrd = inFolder("initrd.gz");
  // Without ACPI a guest cannot switch the machine off; it ends at a reset.
  const end = acpi ? "poweroff -f" : "reboot -f";
  const script = [modules.script, "mkdir /mnt", ...lines, end].join("\n");
  writeFileSync(initrd, buildInitrd({ busybox, files: { ...modules.files, ...files }, script }));
  const boots = `kexec,${kernel},${initrd},console=ttyS0 quiet ${cmdline}`;
  const machine = [...(acpi ? ["-A"] : []), "-m", "512M", "-s", "0,hostbridge", "-s", "31,lpc"];
  const child = spawn(
    join(projectRoot, "bin", "xhyve"),
    [...machine, "-l", "com1,stdio", ...flags, "-f", boots],
    { stdio: ["ignore", "pipe", "pipe"] },
  );
  const timer = setTimeout(() => child.kill("SIGKILL"), LIMIT_MS);
  let output = "";
  for (const stream of [child.stdout, child.stderr])
    stream.on("data", (data) => {
      output += String(data);
    });
  const status = await new Promise<number | null>((done) => child.on("close", done));
  clearTimeout(timer);
  return { output: output.replaceAll("\r", ""), status };
}

const mount = "busybox mount -t ext4 /dev/sda /mnt";
const umount = "busybox umount /mnt";
const sums = (output: string): string[] =>
  [...output.matchAll(/^([0-9a-f]{32}) {2}(\S+)$/gm)].map(([, sum, name]) => `${name} ${sum}`);

const ways: [string, How, RegExp][] = [
  ["MSI", {}, /PCI-MSI.*ahci/],
  ["pci=nomsi", { cmdline: "pci=nomsi" }, /IO-APIC.*fasteoi.*ahci/],
  ["noapic", { cmdline: "noapic pci=nomsi" }, /XT-PIC.*ahci/],
  ["acpi=off (the MP table)", { cmdline: "acpi=off pci=nomsi", acpi: false }, /IO-APIC.*ahci/],
];

describe.each(ways)("with %s", (name, how, interrupt) => {
  it("files are the same after a reboot", async () => {
    const disk = makeDisk("disk.img");
    const run = (lines: string[]) => boot(lines, { ...how, flags: ["-s", `3,ahci-hd,${disk}`] });
    const first = await run([
      mount,
      "busybox dd if=/dev/urandom of=/mnt/large bs=64k count=128",
      "for i in 1 2 3 4; do busybox dd if=/mnt/large of=/mnt/$i bs=1M & done; wait",
      "busybox sync",
      "md5sum /mnt/large /mnt/1 /mnt/2 /mnt/3 /mnt/4",
      umount,
      "cat /proc/interrupts; dmesg",
    ]);
    expect(first.output).toMatch(interrupt);
    const written = sums(first.output);
    expect(written.length, first.output).toBe(5);
    expect(new Set(written.map((line) => line.split(" ")[1])).size).toBe(1);
    const log = first.output.slice(first.output.indexOf("Linux version"));
    expect(dmesgProblems(log), name).toEqual([]);
    const second = await run([mount, "md5sum /mnt/large /mnt/1 /mnt/2 /mnt/3 /mnt/4", umount]);
    expect(sums(second.output), name).toEqual(written);
    execFileSync("e2fsck", ["-fn", disk], { stdio: "ignore" });
  });
});

describe("a disk", () => {
  it("queues 32 commands, has the sectors that it should, and gives room back", async () => {
    const disk = makeDisk("disk.img");
    const { output } = await boot(
      [
        "for one in device/queue_depth queue/physical_block_size queue/rotational size; do",
        '  echo "$one=$(cat /sys/block/sda/$one)"',
        "done",
        `${mount} -o discard`,
        "busybox dd if=/dev/urandom of=/mnt/large bs=64k count=256",
        "busybox sync; rm /mnt/large; busybox sync; busybox fstrim -v /mnt",
        umount,
      ],
      { flags: ["-s", `3,ahci-hd,${disk},sectorsize=512/4096`] },
    );
    for (const line of ["device/queue_depth=32", "queue/physical_block_size=4096"])
      expect(output).toContain(`${line}\n`);
    expect(output).toContain(`queue/rotational=0\nsize=${DISK / 512}\n`);
    const used = Number(execFileSync("du", ["--block-size=1", disk]).toString().split("\t")[0]);
    expect(used).toBeLessThan(12 * 2 ** 20);
  });

  it("is described by hdparm and lspci as it should be", async () => {
    const disk = makeDisk("disk.img", { format: false });
    const programs = ["/usr/sbin/hdparm", "/sbin/hdparm", "/usr/bin/lspci"].map(withLibraries);
    const files: Record<string, Buffer> = Object.assign({}, ...programs);
    const path = (name: string) => Object.keys(files).find((file) => file.endsWith(`/${name}`));
    const { output } = await boot(
      [`/${path("hdparm")} -I /dev/sda`, `/${path("lspci")} -vv -s 3.0`],
      { flags: ["-s", `3,ahci-hd,${disk}`], files },
    );
    expect(output).toMatch(/Model Number: +BHYVE SATA DISK\s/);
    expect(output).toMatch(/Serial Number: +BHYVE-/);
    expect(output).toMatch(/Checksum: correct/);
    for (const feature of [
      "Native Command Queueing (NCQ)",
      "Data Set Management TRIM supported (limit 8 blocks)",
      "FLUSH_CACHE_EXT",
      "WRITE_{DMA|MULTIPLE}_FUA_EXT",
      "{READ,WRITE}_DMA_EXT_GPL commands",
    ])
      expect(output).toContain(feature);
    expect(output).toMatch(/8086:2821|SATA controller|Class 0106/);
    expect(output).toMatch(/prog-if 01/);
    expect(output).toMatch(/MSI: Enable\+ Count=1\/1 Maskable- 64bit\+/);
    expect(output).toMatch(/Memory at c0000000 .*\[size=1K\]|Region 5: Memory at c0000000/);
  });

  it("that may not be written is not", async () => {
    const disk = makeDisk("disk.img");
    const before = execFileSync("md5sum", [disk]).toString();
    const { output } = await boot(
      ["busybox dd if=/dev/zero of=/dev/sda bs=4k count=1 conv=fsync || echo REFUSED"],
      { flags: ["-s", `3,ahci-hd,${disk},ro`] },
    );
    expect(output).toContain("REFUSED");
    expect(execFileSync("md5sum", [disk]).toString()).toBe(before);
  });
});

it("eight ports work at once, seven disks and a CD", async () => {
  const disks = Array.from({ length: 7 }, (_, index) =>
    makeDisk(`port${index}.img`, { size: 8 * 2 ** 20, format: false }),
  );
  execFileSync("genisoimage", [
    "-quiet",
    "-R",
    "-o",
    inFolder("cd.iso"),
    join(projectRoot, "docs"),
  ]);
  const ports = [...disks.map((disk) => `hd:${disk}`), `cd:${inFolder("cd.iso")}`].join(",");
  const { output } = await boot(
    [
      "for d in a b c d e f g; do busybox dd if=/dev/urandom of=/dev/sd$d bs=256k conv=fsync & done; wait",
      "echo 3 > /proc/sys/vm/drop_caches",
      "md5sum /dev/sda /dev/sdb /dev/sdc /dev/sdd /dev/sde /dev/sdf /dev/sdg",
      "busybox mount -t iso9660 -o ro /dev/sr0 /mnt; md5sum /mnt/errors.md",
    ],
    { flags: ["-c", "2", "-s", `3,ahci,${ports}`] },
  );
  const seen = sums(output).map((line) => line.split(" ")[1]);
  const wanted = [...disks, join(projectRoot, "docs", "errors.md")].map(
    (path) => execFileSync("md5sum", [path]).toString().split(" ")[0],
  );
  expect(seen.slice().sort(), output).toEqual(wanted.slice().sort());
});
