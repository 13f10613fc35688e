// Discs change in the drive of a guest that runs, by the API and by xhyvectl; slots that a client
// leaves open are assigned and kept.
import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { TestDaemon } from "../daemon/daemon.js";
import { debianBusybox, debianKernel } from "../guest/debian.js";
import { buildInitrd } from "../guest/initrd.js";
import { AHCI_MODULES, guestModules } from "../guest/modules.js";
import { projectRoot } from "../guest/paths.js";
import { LinuxGuest } from "./linux.js";

let daemon: TestDaemon;
beforeAll(async () => {
  daemon = await TestDaemon.start();
});
afterAll(() => daemon.end());

function makeDisc(name: string): string {
  const files = join(daemon.folder, `${name}-files`);
  const disc = join(daemon.folder, `${name}.iso`);
  mkdirSync(files);
  writeFileSync(join(files, "name.txt"), `this is ${name}\n`);
  execFileSync("genisoimage", ["-quiet", "-R", "-o", disc, files]);
  return disc;
}

async function guestWithDrive(disc: string): Promise<LinuxGuest> {
  const kernel = await debianKernel("linux-image-amd64");
  const { files, script } = guestModules(kernel, AHCI_MODULES);
  const initrd = join(daemon.folder, "ahci-initrd.gz");
  const busybox = await debianBusybox();
  writeFileSync(initrd, buildInitrd({ busybox, files, script: `${script}\nmkdir /mnt` }));
  return LinuxGuest.boot(daemon, "discs", {
    boot: { kind: "linux", kernel, initrd, cmdline: "console=ttyS0 quiet" },
    devices: [{ type: "hostbridge" }, { type: "lpc" }, { type: "ahci-cd", path: disc }],
  });
}

const media = "/vms/discs/media";
const READ =
  "busybox mount -t iso9660 -o ro /dev/sr0 /mnt && cat /mnt/name.txt && busybox umount /mnt";

it("a guest sees one disc after the other", async () => {
  const [one, two] = [makeDisc("one"), makeDisc("two")];
  const guest = await guestWithDrive(one);
  const { definition } = await guest.view();
  expect(definition.devices.map(({ slot, type }) => `${slot} ${type}`)).toEqual([
    ...["0:0 hostbridge", "31:0 lpc", "1:0 ahci-cd"],
  ]);
  expect(await guest.run(READ)).toContain("this is one");

  // While it is mounted the guest holds the door.
  await guest.run("busybox mount -t iso9660 -o ro /dev/sr0 /mnt");
  const locked = await daemon.refusal("PUT", `${media}/1:0`, {});
  expect(locked).toMatchObject({ code: "MEDIUM_LOCKED", status: 409 });
  await guest.run("busybox umount /mnt");

  const empty = await daemon.client.json("PUT", `${media}/1`, {});
  expect(empty).toEqual({ drives: [{ device: "1:0", tray: "open", locked: false }] });
  expect(await guest.run(READ)).toMatch(/mount/); // busybox says why it cannot
  await daemon.client.json("PUT", `${media}/1:0`, { path: two });
  expect(await guest.run(READ)).toContain("this is two");
  expect(await daemon.client.json("GET", media)).toEqual({
    drives: [{ device: "1:0", path: two, tray: "closed", locked: false }],
  });

  const socket = { ...process.env, XHYVED_SOCKET: daemon.socket };
  const xhyvectl = (...args: string[]): string =>
    execFileSync(join(projectRoot, "bin", "xhyvectl"), args, { env: socket, encoding: "utf8" });
  expect(xhyvectl("eject", "discs", "1:0")).toMatch(/1:0 +open +no +-/);
  expect(xhyvectl("insert", "discs", "1:0", one)).toMatch(/1:0 +closed +no +\/.*one\.iso/);
  expect(await guest.run(READ)).toContain("this is one");

  expect(await daemon.refusal("PUT", `${media}/2:0`, {})).toMatchObject({
    code: "DRIVE_NOT_FOUND",
  });
  expect(await daemon.refusal("PUT", `${media}/1:0`, { path: "/none.iso" })).toMatchObject({
    code: "IMAGE_UNUSABLE",
  });
  expect(await guest.run(READ)).toContain("this is one"); // nothing changed
  await guest.stop();
  const after = await guest.view();
  expect(after.definition.devices[2]).toEqual({ slot: "1:0", type: "ahci-cd", path: one });
});
