// The guest of this bench: Debian's cloud kernel with its virtio modules, and bench/io/guest. The disks
// are full of bytes that are not zeros, as a disk in use is; a qcow2 one has a second half with nothing.
import { execFileSync } from "node:child_process";
import {
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { debianBusybox, debianKernel } from "../../test/guest/debian.js";
import { buildInitrd } from "../../test/guest/initrd.js";
import { projectRoot } from "../../test/guest/paths.js";
import { virtioModules } from "../../test/guest/virtio.js";

const MIB = 2 ** 20;
/** Of each disk: what is full at first. */
export const FULL_MIB = 256;
/** Of a qcow2 disk, after that: for writes to clusters that are not there yet. */
export const FRESH_MIB = 4096;

export const DISKS = ["raw", "qcow2"] as const;
export type DiskFormat = (typeof DISKS)[number];

export interface Images {
  readonly kernel: string;
  readonly initrd: string;
  /** The guest's program, for the host. */
  readonly program: string;
}

function compile(out: string): string {
  const sources = join(projectRoot, "bench", "io", "guest");
  const program = join(out, "io");
  const files = readdirSync(sources).filter((name) => name.endsWith(".c"));
  const flags = "-O2 -static -std=gnu11 -Wall -Wextra".split(" ");
  execFileSync("gcc", [...flags, "-o", program, ...files], { cwd: sources, stdio: "inherit" });
  return program;
}

/** A setting of the card that both have, and the program in place of a shell. */
const START = `busybox ip link set lo up
busybox ip addr add $address dev eth0
busybox ip link set eth0 up
exec io`;

export async function buildImages(): Promise<Images> {
  const out = join(projectRoot, "build", "bench");
  mkdirSync(out, { recursive: true });
  const program = compile(out);
  const kernel = await debianKernel();
  const { files, script } = virtioModules(kernel, true);
  const initrd = join(out, "io-initrd.gz");
  writeFileSync(
    initrd,
    buildInitrd({
      busybox: await debianBusybox(),
      files: { ...files, "bin/io": readFileSync(program) },
      script: `${script()}\n${START}`,
    }),
  );
  return { kernel, initrd, program };
}

/** Both disks, for one contender. */
export function makeDisks(folder: string): Record<DiskFormat, string> {
  mkdirSync(folder, { recursive: true });
  const disks = { raw: join(folder, "disk.raw"), qcow2: join(folder, "disk.qcow2") };
  const file = openSync(disks.raw, "w");
  for (let at = 0; at < FULL_MIB; at++) writeSync(file, Buffer.alloc(MIB, at + 1));
  closeSync(file);
  execFileSync("qemu-img", ["convert", "-f", "raw", "-O", "qcow2", disks.raw, disks.qcow2]);
  execFileSync("qemu-img", ["resize", "-q", disks.qcow2, `${FULL_MIB + FRESH_MIB}M`]);
  return disks;
}
