// A guest amid queued AHCI traffic goes from process to process: what it writes arrives once and
// whole.
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { parse, VmDefinition } from "../../api-schema/index.js";
import { debianBusybox, debianKernel } from "../guest/debian.js";
import { buildInitrd, SHELL_PROMPT } from "../guest/initrd.js";
import { AHCI_MODULES, guestModules } from "../guest/modules.js";
import { VmProcess } from "../guest/vm-process.js";

const MOVES = 6;
const EVERY_MS = 400;

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "xhyved-ahci-state-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function define(disk: string): Promise<VmDefinition> {
  const kernel = await debianKernel("linux-image-amd64");
  const { files, script } = guestModules(kernel, AHCI_MODULES);
  const initrd = join(folder, "initrd.gz");
  const busybox = await debianBusybox();
  writeFileSync(initrd, buildInitrd({ busybox, files, script: `${script}\nmkdir /mnt` }));
  return parse(VmDefinition, {
    name: "moving",
    uuid: "11111111-2222-4333-8444-888888888888",
    cpus: 2,
    memory: 512 * 2 ** 20,
    boot: { kind: "linux", kernel, initrd, cmdline: "console=ttyS0 quiet" },
    devices: [
      { slot: "0:0", type: "hostbridge" },
      { slot: "3:0", type: "ahci-hd", path: disk },
      { slot: "4:0", type: "ahci-cd" },
      { slot: "31:0", type: "lpc" },
    ],
  });
}

/** Writes files of the same bytes, several at a time, and compares them. */
const TRAFFIC = [
  "busybox mount -t ext4 /dev/sda /mnt",
  "busybox dd if=/dev/urandom of=/mnt/f0 bs=4k count=256",
  "for i in 1 2 3; do for j in 1 2 3; do busybox dd if=/mnt/f0 of=/mnt/f$i$j bs=64k conv=fsync & done; wait; done",
  "echo 3 > /proc/sys/vm/drop_caches",
  "md5sum /mnt/f* | busybox cut -d' ' -f1 | busybox sort -u | busybox wc -l",
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
    await vm.waitFor(SHELL_PROMPT, 240);
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
    await vm.waitFor("all-42", 240);
    expect(vm.output()).toMatch(/\r\n1\r\n.*all-42/s);
    expect(vm.output()).not.toMatch(/I\/O error|EXT4-fs error|Call Trace|exception Emask/);
  } finally {
    await vm.end();
  }
  execFileSync("e2fsck", ["-fn", disk], { stdio: "ignore" });
});
