// A daemon of root: its VMs run as a user who owns nothing, from files that are root's alone, and
// go on so when the daemon was killed.
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { eventually, TestDaemon } from "../daemon/daemon.js";
import { debianBusybox, debianKernel } from "../guest/debian.js";
import { buildInitrd } from "../guest/initrd.js";
import { AHCI_MODULES, guestModules } from "../guest/modules.js";
import { LinuxGuest } from "./linux.js";

/** Of Debian's base system: a user with no rights anywhere. */
const USER = { name: "nobody", uid: 65534 };
const DISK_BYTES = 2 ** 20;

let daemon: TestDaemon;
beforeAll(async () => {
  daemon = await TestDaemon.start(["--vm-user", USER.name]);
});
afterAll(() => daemon.end());

/** Linux looks for drives in the background. */
const DRIVES = "until [ -b /dev/sr0 ] && [ -b /dev/sda ]; do sleep 0.2; done";

const own = (name: string): string => join(daemon.folder, name);

/** Root's alone, as all that this test makes. */
function disc(name: string): string {
  const files = own(`${name}-files`);
  const path = own(`${name}.iso`);
  mkdirSync(files);
  writeFileSync(join(files, "name.txt"), `this is ${name}\n`);
  execFileSync("genisoimage", ["-quiet", "-R", "-o", path, files]);
  chmodSync(path, 0o600);
  return path;
}

async function boot(first: string): Promise<LinuxGuest> {
  const kernel = await debianKernel("linux-image-amd64");
  const { files, script } = guestModules(kernel, AHCI_MODULES);
  const initrd = daemon.file(
    "drives-initrd.gz",
    buildInitrd({
      busybox: await debianBusybox(),
      files,
      script: `${script}\n${DRIVES}\nmkdir /mnt`,
    }),
  );
  const disk = daemon.file("disk.img", Buffer.alloc(DISK_BYTES));
  for (const path of [initrd, disk]) chmodSync(path, 0o600);
  return LinuxGuest.boot(daemon, "least", {
    boot: { kind: "linux", kernel, initrd, cmdline: "console=ttyS0 quiet" },
    devices: [
      { type: "hostbridge" },
      { type: "lpc" },
      { type: "ahci-cd", path: first },
      { type: "ahci-hd", path: disk },
      { type: "virtio-net", backend: { kind: "switch", network: `least-${process.pid}` } },
      { type: "virtio-sock", cid: 7, socket: own("vsock") },
    ],
    serial: { com1: { backend: "console" }, com2: { backend: "socket", path: own("com2") } },
  });
}

const RIGHTS = /^(Uid|Gid|Groups|CapInh|CapPrm|CapEff|CapAmb|NoNewPrivs|Seccomp):\s*(.*)$/;

const rightsIn = (status: string): string =>
  status
    .split("\n")
    .flatMap((line) => RIGHTS.exec(line)?.slice(1, 3).join(" ").replaceAll("\t", " ").trim() ?? [])
    .join("\n");

/** proc(5): what every thread of the process may do, each answer once. */
function rightsOf(pid: number): string[] {
  const threads = readdirSync(`/proc/${pid}/task`).flatMap((task) => {
    try {
      return [rightsIn(readFileSync(`/proc/${pid}/task/${task}/status`, "utf8"))];
    } catch {
      return []; // it has ended since
    }
  });
  return [...new Set(threads)];
}

/** draft-ietf-opsawg-pcapng §4.1, the block type of a section header. */
const PCAPNG = "0a0d0d0a";
const NONE = "0000000000000000";
const { uid } = USER;
const LEAST = [
  `Uid ${uid} ${uid} ${uid} ${uid}`,
  `Gid ${uid} ${uid} ${uid} ${uid}`,
  "Groups",
  ...[`CapInh ${NONE}`, `CapPrm ${NONE}`, `CapEff ${NONE}`, `CapAmb ${NONE}`],
  "NoNewPrivs 1",
  "Seccomp 2",
].join("\n");

const limitOf = (pid: number, name: string): string | undefined =>
  readFileSync(`/proc/${pid}/limits`, "utf8")
    .split("\n")
    .find((line) => line.startsWith(name));

const READ =
  "busybox mount -t iso9660 -o ro /dev/sr0 /mnt && cat /mnt/name.txt && busybox umount /mnt";

it("Linux boots, writes its disk, is given discs and captured, and is taken back", async () => {
  const [one, two] = [disc("one"), disc("two")];
  const guest = await boot(one);
  const pid = (await guest.view()).status.pid ?? 0;
  expect(rightsOf(pid)).toEqual([LEAST]);
  expect(limitOf(pid, "Max core file size")).toMatch(/ 0 +0 /);
  expect(limitOf(pid, "Max open files")).toMatch(/ 8192 +8192 /);

  expect(await guest.run(READ)).toContain("this is one");
  await daemon.client.json("PUT", "/vms/least/media/1:0", { path: two });
  expect(await guest.run(READ)).toContain("this is two");
  await guest.run("echo written by the guest | dd of=/dev/sda conv=fsync 2>/dev/null");
  expect(readFileSync(own("disk.img")).toString("latin1", 0, 20)).toBe("written by the guest");

  // Of what it makes the names are the daemon's.
  const capture = own("frames.pcap");
  const slot = "3:0";
  await daemon.client.json("PUT", `/vms/least/networks/${slot}/capture`, { file: capture });
  await daemon.client.json("DELETE", `/vms/least/networks/${slot}/capture`);
  expect(statSync(capture).uid).toBe(0);
  expect(readFileSync(capture).toString("hex", 0, 4)).toBe(PCAPNG);

  // The history of the console goes on by name, in a folder that the user cannot reach by one.
  await guest.run("(sleep 1; echo the daemon sees $((40 + 2))) &");
  await daemon.kill("SIGKILL");
  await daemon.launch();
  expect((await guest.view()).status).toMatchObject({ state: "running", pid });
  const heard = async () => (await daemon.history("least")).includes("the daemon sees 42");
  await eventually(heard, 120);

  await daemon.client.json("POST", "/vms/least/stop?wait=stopped&timeout=60");
  await eventually(() => !existsSync(own("vsock")) && !existsSync(own("com2")));
  const status = (await guest.view()).status;
  expect(status).toMatchObject({ state: "stopped", reason: "stop requested" });
  expect(
    readdirSync(own("run/vm")).flatMap((vm) => readdirSync(own(`run/vm/${vm}`))),
  ).not.toContain("vm.sock");
});
