// A guest amid disk traffic goes from process to process: what it writes arrives once and whole.
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { parse, VmDefinition } from "../../api-schema/index.js";
import { debianBusybox, debianKernel } from "../guest/debian.js";
import { buildInitrd, SHELL_PROMPT } from "../guest/initrd.js";
import { virtioModules } from "../guest/virtio.js";
import { VmProcess } from "../guest/vm-process.js";

const MOVES = 8;
const EVERY_MS = 400;

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "xhyved-virtio-state-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function define(disk: string): Promise<VmDefinition> {
  const kernel = await debianKernel();
  const { files, script } = virtioModules(kernel);
  const initrd = join(folder, "initrd.gz");
  const busybox = await debianBusybox();
  writeFileSync(initrd, buildInitrd({ busybox, files, script: `${script()}\nmkdir /mnt` }));
  return parse(VmDefinition, {
    name: "moving",
    uuid: "11111111-2222-4333-8444-666666666666",
    cpus: 2,
    memory: 256 * 2 ** 20,
    boot: { kind: "linux", kernel, initrd, cmdline: "console=ttyS0 quiet" },
    devices: [
      { slot: "0:0", type: "hostbridge" },
      { slot: "3:0", type: "virtio-blk", path: disk, queues: 2 },
      { slot: "4:0", type: "virtio-rnd" },
      { slot: "31:0", type: "lpc" },
    ],
  });
}

/** Writes ten files of the same bytes, some of it past the page cache, and compares them. */
const TRAFFIC = [
  "busybox mount -t ext4 /dev/vda /mnt",
  "busybox dd if=/dev/hwrng of=/mnt/f0 bs=4k count=256",
  "for i in 1 2 3 4 5 6 7 8 9; do busybox dd if=/mnt/f0 of=/mnt/f$i bs=64k conv=fsync; done",
  "echo 3 > /proc/sys/vm/drop_caches",
  "md5sum /mnt/f? | busybox cut -d' ' -f1 | busybox sort -u | busybox wc -l",
  "busybox umount /mnt; echo all-$((40+2))",
].join("; ");

it("loses and repeats nothing", async () => {
  const disk = join(folder, "disk.img");
  writeFileSync(disk, "");
  truncateSync(disk, 64 * 2 ** 20);
  execFileSync("mkfs.ext4", ["-q", disk]);
  const definition = await define(disk);
  const console = join(folder, "console.log");
  let vm = await VmProcess.launch({ folder: join(folder, "vm-0"), definition, console });
  try {
    await vm.connection.call("start", {});
    await vm.waitFor(SHELL_PROMPT, 120);
    await vm.type(`${TRAFFIC}\n`);
    for (let move = 1; move <= MOVES; move++) {
      await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
      await vm.connection.call("pause", {});
      const saved = join(folder, `saved-${move}`);
      await vm.connection.call("saveState", { directory: saved });
      await vm.end();
      const next = { folder: join(folder, `vm-${move}`), definition, console, restore: saved };
      vm = await VmProcess.launch(next);
      await vm.connection.call("start", {});
      rmSync(saved, { recursive: true });
    }
    await vm.waitFor("all-42", 120);
    expect(vm.output()).toMatch(/\r\n1\r\nall-42/);
    expect(vm.output()).not.toMatch(/I\/O error|EXT4-fs error|Call Trace/);
  } finally {
    await vm.end();
  }
  execFileSync("e2fsck", ["-fn", disk], { stdio: "ignore" });
});
