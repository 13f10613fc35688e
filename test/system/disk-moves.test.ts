// A guest amid disk traffic goes from process to process: what it writes arrives once and whole.
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parse, VmDefinition } from "../../api-schema/index.js";
import { debianBusybox, debianKernel } from "../guest/debian.js";
import { buildInitrd, SHELL_PROMPT } from "../guest/initrd.js";
import { AHCI_MODULES, guestModules } from "../guest/modules.js";
import { virtioModules } from "../guest/virtio.js";
import { VmProcess } from "../guest/vm-process.js";

const EVERY_MS = 400;
const TIMEOUT_S = 240;

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "xhyved-disk-moves-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Controller {
  readonly name: string;
  readonly moves: number;
  /** The kernel with its drivers, and how they are loaded. */
  drivers(): Promise<{ kernel: string; files: Record<string, Buffer>; script: string }>;
  readonly devices: (disk: string) => object[];
  /** Under /dev in the guest. */
  readonly disk: string;
  readonly randomness: string;
  /** Lines of the shell that make files of the bytes of f0. */
  readonly copies: string;
}

const controllers: Controller[] = [
  {
    name: "virtio-blk and virtio-rnd",
    moves: 8,
    drivers: async () => {
      const kernel = await debianKernel();
      const { files, script } = virtioModules(kernel);
      return { kernel, files, script: script() };
    },
    devices: (disk) => [
      { slot: "3:0", type: "virtio-blk", path: disk, queues: 2 },
      { slot: "4:0", type: "virtio-rnd" },
    ],
    disk: "vda",
    randomness: "hwrng",
    copies:
      "for i in 1 2 3 4 5 6 7 8 9; do busybox dd if=/mnt/f0 of=/mnt/f$i bs=64k conv=fsync; done",
  },
  {
    name: "AHCI, with several commands queued",
    moves: 6,
    drivers: async () => {
      const kernel = await debianKernel("linux-image-amd64");
      return { kernel, ...guestModules(kernel, AHCI_MODULES) };
    },
    devices: (disk) => [
      { slot: "3:0", type: "ahci-hd", path: disk },
      { slot: "4:0", type: "ahci-cd" },
    ],
    disk: "sda",
    randomness: "urandom",
    copies:
      "for i in 1 2 3; do for j in 1 2 3; do busybox dd if=/mnt/f0 of=/mnt/f$i$j bs=64k conv=fsync & done; wait; done",
  },
];

describe.each(controllers)("$name", (controller) => {
  it("loses and repeats nothing", async () => {
    const home = mkdtempSync(join(folder, "machine-"));
    const disk = join(home, "disk.img");
    writeFileSync(disk, "");
    truncateSync(disk, 64 * 2 ** 20);
    execFileSync("mkfs.ext4", ["-q", disk]);
    const definition = await define(home, controller, disk);
    const console = join(home, "console.log");
    let vm = await VmProcess.launch({ folder: join(home, "vm-0"), definition, console });
    try {
      await vm.connection.call("start", {});
      await vm.waitFor(SHELL_PROMPT, TIMEOUT_S);
      await vm.type(`${traffic(controller)}\n`);
      for (let move = 1; move <= controller.moves; move++) {
        await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
        await vm.connection.call("pause", {});
        const saved = join(home, `saved-${move}`);
        await vm.connection.call("saveState", { directory: saved });
        await vm.end();
        const next = { folder: join(home, `vm-${move}`), definition, console, restore: saved };
        vm = await VmProcess.launch(next);
        await vm.connection.call("start", {});
        rmSync(saved, { recursive: true });
      }
      await vm.waitFor("all-42", TIMEOUT_S);
      expect(vm.output()).toMatch(/\r\n1\r\n.*all-42/s);
      expect(vm.output()).not.toMatch(/I\/O error|EXT4-fs error|Call Trace|exception Emask/);
    } finally {
      await vm.end();
    }
    execFileSync("e2fsck", ["-fn", disk], { stdio: "ignore" });
  });
});

async function define(
  home: string,
  { drivers, devices }: Controller,
  disk: string,
): Promise<VmDefinition> {
  const { kernel, files, script } = await drivers();
  const initrd = join(home, "initrd.gz");
  const busybox = await debianBusybox();
  writeFileSync(initrd, buildInitrd({ busybox, files, script: `${script}\nmkdir /mnt` }));
  return parse(VmDefinition, {
    name: "moving",
    uuid: "11111111-2222-4333-8444-666666666666",
    cpus: 2,
    memory: 512 * 2 ** 20,
    boot: { kind: "linux", kernel, initrd, cmdline: "console=ttyS0 quiet" },
    devices: [{ slot: "0:0", type: "hostbridge" }, ...devices(disk), { slot: "31:0", type: "lpc" }],
  });
}

/** Makes ten files of the same bytes, past the page cache, and compares them. */
const traffic = ({ disk, randomness, copies }: Controller): string =>
  [
    `busybox mount -t ext4 /dev/${disk} /mnt`,
    `busybox dd if=/dev/${randomness} of=/mnt/f0 bs=4k count=256`,
    copies,
    "echo 3 > /proc/sys/vm/drop_caches",
    "md5sum /mnt/f* | busybox cut -d' ' -f1 | busybox sort -u | busybox wc -l",
    "busybox umount /mnt; echo all-$((40+2))",
  ].join("; ");
