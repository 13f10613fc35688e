// A Debian server with systemd: up to its login prompt from each kind of disk, with files that hold
// over a reboot, reached by ssh on each kind of network, and seen by its own tools as a machine
// without faults. Few boots, of which each shows as much as it can.
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import type { VmError } from "../../api-schema/errors.js";
import { dmesgProblems } from "../guest/dmesg.js";
import { debianImage } from "../guest/image.js";
import { listening } from "../guest/listening.js";
import { Namespace, serveDhcp } from "../guest/network.js";
import {
  copyOfImage,
  DebianServer,
  qcow2OfImage,
  type ServerOptions,
  sshCommand,
} from "../guest/server.js";

const IMAGE_MS = 1_200_000;
const TEST_MS = 1_200_000;
const NOBODY = 65534;
const MIB = 2 ** 20;

let folder = "";
let place: Namespace;
const servers: DebianServer[] = [];
const helpers: ChildProcess[] = [];

beforeAll(async () => {
  await debianImage();
  folder = mkdtempSync(join(tmpdir(), "xhyved-debian-"));
  chmodSync(folder, 0o755);
  place = new Namespace("xhyved-debian");
  place.run("ip tuntap add tapa mode tap vnet_hdr; ip addr add 10.7.0.1/24 dev tapa");
  place.run("ip link set tapa up; ip route add default via 10.7.0.9 dev tapa");
  await serveDhcp(place, folder, "10.7.0", "tapa");
}, IMAGE_MS);
afterEach(async () => {
  for (const server of servers.splice(0)) await server.end();
  for (const helper of helpers.splice(0)) helper.kill("SIGTERM");
});
afterAll(() => {
  place.remove();
  rmSync(folder, { recursive: true, force: true });
});

const inFolder = (name: string): string => join(folder, name);

async function start(
  name: string,
  root: string,
  devices: readonly object[],
  more: Partial<ServerOptions> = {},
): Promise<DebianServer> {
  const server = await DebianServer.start({
    folder,
    name,
    root,
    devices,
    within: place.inside,
    environment: { XHYVED_NETWORKS: inFolder("networks") },
    ...more,
  });
  servers.push(server);
  return server;
}

const card = (slot: string, backend: object) => ({ slot, type: "virtio-net", backend });
const TAP = card("2:0", { kind: "tap", interface: "tapa" });
/** Above the slots whose cards ask for an address (test/guest/image-recipe.ts). */
const SWITCH = card("16:0", { kind: "switch", network: "lab" });

async function interfaceAt(server: DebianServer, device: string): Promise<string> {
  return (await server.ask(`ls /sys/bus/pci/devices/0000:00:${device}/virtio*/net`)).trim();
}

interface Address {
  readonly mac: string;
  readonly ip: string;
}

/** Of the card on slot 2, when DHCP has given it one. */
async function addressOf(server: DebianServer): Promise<Address> {
  const name = await interfaceAt(server, "02.0");
  const shown = `ip -4 -o address show dev ${name}`;
  await server.ask(`until ${shown} | grep -q inet; do sleep 0.5; done`);
  const ip = /inet ([\d.]+)/.exec(await server.ask(shown))?.[1] ?? "";
  return { ip, mac: (await server.ask(`cat /sys/class/net/${name}/address`)).trim() };
}

/** What a command prints that ssh runs in a server. */
async function bySsh(host: string, line: string, port = 22): Promise<string> {
  const words = [...place.inside, ...(await sshCommand(host, port)), line];
  return execFileSync(words[0] ?? "", words.slice(1), { timeout: 180_000 }).toString("latin1");
}

const TREE = "usr/bin usr/sbin usr/lib";
const SUMS = "cd /srv/tree; find . -type f -print0 | sort -z | xargs -0 md5sum | md5sum; cd /";

/** Unpacks a tree of more than 100 MiB, and finds it the same after a reboot. */
async function treeHolds(server: DebianServer): Promise<void> {
  const unpack = `mkdir /srv/tree && tar -C / -cf - ${TREE} | tar -C /srv/tree -xf - && sync`;
  await server.ask(unpack, 400);
  const [size = "0"] = (await server.ask("du -sm /srv/tree")).split("\t");
  expect(Number(size)).toBeGreaterThan(100);
  const before = await server.ask(SUMS, 400);
  expect(before).toMatch(/^[0-9a-f]{32} {2}-\n$/);
  await server.reboot();
  expect(await server.ask(SUMS, 400)).toBe(before);
  expect(await server.ask("systemctl is-system-running --wait")).toBe("running\n");
  expect(dmesgProblems(await server.ask("dmesg"))).toEqual([]);
}

function makeDisc(name: string): string {
  const files = inFolder(`${name}-files`);
  mkdirSync(files);
  writeFileSync(join(files, "name.txt"), `this is ${name}\n`);
  execFileSync("genisoimage", ["-quiet", "-R", "-o", inFolder(`${name}.iso`), files]);
  return inFolder(`${name}.iso`);
}

const READ_DISC = "mount -o ro /dev/sr0 /mnt; cat /mnt/name.txt; umount /mnt";

it(
  "virtio-blk: its tools find no fault, two cards, ssh by tap, one address, one disc after the other",
  async () => {
    const disk = await copyOfImage(inFolder("virtio.raw"));
    const [one, two] = [makeDisc("one"), makeDisc("two")];
    const server = await start("first", "/dev/vda", [
      TAP,
      { slot: "3:0", type: "virtio-blk", path: disk, physicalSector: 4096 },
      { slot: "4:0", type: "ahci-cd", path: one },
      { slot: "5:0", type: "virtio-rnd" },
      SWITCH,
    ]);
    const address = await addressOf(server);
    expect(address.ip).toMatch(/^10\.7\.0\.1\d\d$/);
    expect(await bySsh(address.ip, "hostname; id -un")).toBe("debian\nroot\n");
    await pciIsWhole(server);
    await blocksAreWhole(server);
    await cardsAreWhole(server);
    await dmiIsWhole(server);
    await acpiIsWhole(address.ip);

    expect(await server.ask(READ_DISC)).toBe("this is one\n");
    await eject(server, "4:0");
    await expect(server.ask("mount -o ro /dev/sr0 /mnt")).rejects.toThrow(/no medium found/);
    await server.vm.connection.call("changeMedium", { device: "4:0", path: two });
    expect(await server.ask(READ_DISC)).toBe("this is two\n");

    await treeHolds(server);
    expect(await addressOf(server)).toEqual(address);
    expect(await bySsh(address.ip, "hostname")).toBe("debian\n");
  },
  TEST_MS,
);

/** The guest's udev holds the door of a drive; asked for the disc, it lets go. */
async function eject(server: DebianServer, device: string): Promise<void> {
  const once = () =>
    server.vm.connection.call("changeMedium", { device }).then(
      () => "ejected",
      (error: VmError) => error.code,
    );
  expect(await once()).toMatch(/ejected|MEDIUM_LOCKED/);
  await expect.poll(once, { timeout: 120_000, interval: 500 }).toBe("ejected");
}

/** No structure that lspci cannot read, a driver on each function, interrupts as messages. */
async function pciIsWhole(server: DebianServer): Promise<void> {
  const shown = await server.ask("lspci -vv");
  expect(shown).not.toMatch(/!!!|<access denied>|Unknown header|<chain (looped|broken)>|<\?>/i);
  const functions = shown.split("\n\n").filter((text) => text.trim() !== "");
  const of = (slot: string): string => functions.find((text) => text.startsWith(slot)) ?? "";
  expect(functions.map((text) => text.slice(0, 7))).toEqual(
    ["00", "02", "03", "04", "05", "10", "1f"].map((slot) => `00:${slot}.`).map((at) => `${at}0`),
  );
  for (const slot of ["00:02", "00:03", "00:05", "00:10"]) {
    expect(of(slot)).toMatch(/Kernel driver in use: virtio-pci/);
    expect(of(slot)).toMatch(/MSI-X: Enable\+ Count=\d+ Masked-/);
    expect(of(slot)).toMatch(/Control: I\/O\+ Mem\+ BusMaster\+/);
    expect(of(slot)).toMatch(/VirtIO: CommonCfg/);
  }
  expect(of("00:02")).toMatch(/Ethernet controller: Red Hat, Inc\. Virtio network device/);
  expect(of("00:03")).toMatch(/SCSI storage controller: Red Hat, Inc\. Virtio block device/);
  expect(of("00:04")).toMatch(/SATA controller: Intel .*\(prog-if 01 \[AHCI 1\.0\]\)/);
  expect(of("00:04")).toMatch(/MSI: Enable\+ Count=1\/1[\s\S]*Kernel driver in use: ahci/);
  expect(of("00:1f")).toMatch(/ISA bridge: Intel/);
}

/** The sectors and limits of the disk and of the disc. */
async function blocksAreWhole(server: DebianServer): Promise<void> {
  const columns = "NAME,ALIGNMENT,MIN-IO,OPT-IO,PHY-SEC,LOG-SEC,ROTA";
  const table = await server.ask(`lsblk -t; lsblk -rn -o ${columns}`);
  expect(table).toMatch(/^vda 0 4096 0 4096 512 \d$/m);
  expect(table).toMatch(/^sr0 0 \d+ \d+ 2048 2048 1$/m);
  const discard = await server.ask("lsblk -bDrn -o NAME,DISC-ALN,DISC-GRAN,DISC-MAX /dev/vda");
  expect(discard).toMatch(/^vda 0 [1-9]\d* [1-9]\d*$/m);
}

const ON = [
  ...["rx-checksumming", "tx-checksumming", "scatter-gather", "tcp-segmentation-offload"],
  ...["generic-segmentation-offload", "tx-tcp-segmentation", "tx-tcp6-segmentation"],
];

async function cardsAreWhole(server: DebianServer): Promise<void> {
  for (const device of ["02.0", "10.0"]) {
    const name = await interfaceAt(server, device);
    const features = await server.ask(`ethtool -k ${name}`);
    if (device === "02.0")
      for (const feature of ON) expect(features).toMatch(new RegExp(`^\\s*${feature}: on`, "m"));
    expect(await server.ask(`ethtool -i ${name}`)).toMatch(
      new RegExp(`driver: virtio_net\\n[\\s\\S]*bus-info: 0000:00:${device}`),
    );
    expect(await server.ask(`ethtool ${name}`)).toMatch(/Link detected: /);
  }
}

async function dmiIsWhole(server: DebianServer): Promise<void> {
  const shown = await server.ask("dmidecode");
  expect(shown).not.toMatch(
    /broken|truncated|wrong|invalid|bad index|out of spec|mismatch|error:/i,
  );
  expect(shown).toMatch(/^SMBIOS 2\.8 present\.$/m);
  expect(shown).toMatch(/Product Name: BHYVE\n/);
  expect(shown).toMatch(/Type: CPU\n|Type: Central Processor\n/);
  expect(shown).toMatch(/Maximum Capacity: 512 MB\n/);
  expect(shown).toMatch(/\tSize: 512 MB\n/);
  expect(shown).toMatch(/End Of Table/);
  const id = await server.ask("cat /sys/class/dmi/id/product_uuid");
  expect(shown.toLowerCase()).toContain(`uuid: ${id.trim().toLowerCase()}`);
}

/** The tables that the guest dumps: read by Intel's disassembler, and its DSDT compiled anew. */
async function acpiIsWhole(host: string): Promise<void> {
  const own = inFolder("acpi");
  mkdirSync(own);
  writeFileSync(join(own, "tables.txt"), await bySsh(host, "acpidump"));
  const run = (line: string): string =>
    execFileSync("sh", ["-ec", `{ ${line}; } 2>&1`], { cwd: own, encoding: "utf8" });
  run("acpixtract -a tables.txt");
  const tables = readdirSync(own).filter((name) => name.endsWith(".dat"));
  expect(tables.sort()).toEqual([
    "apic.dat",
    "dsdt.dat",
    "facp.dat",
    "facs.dat",
    "hpet.dat",
    "mcfg.dat",
  ]);
  for (const table of tables) {
    const log = run(`iasl -d ${table}`);
    expect(log, table).not.toMatch(/error|warning|invalid|incorrect|unknown|exception/i);
    const source = readFileSync(join(own, table.replace(".dat", ".dsl")), "utf8");
    expect(source, table).not.toMatch(/incorrect checksum|invalid|unknown field|\*\*\*\*/i);
  }
  const compiled = run("iasl -p again dsdt.dsl");
  expect(compiled).toMatch(/0 Errors, 0 Warnings/);
}

it(
  "AHCI: what hdparm finds, ssh by passt without root",
  async () => {
    const disk = await copyOfImage(inFolder("ahci.raw"));
    const run = inFolder("second");
    mkdirSync(run, { mode: 0o700 });
    for (const path of [run, disk]) chownSync(path, NOBODY, NOBODY);
    const forwards = [{ protocol: "tcp", host: 2222, guest: 22 }];
    const as = ["setpriv", `--reuid=${NOBODY}`, `--regid=${NOBODY}`, "--clear-groups"];
    const devices = [
      card("2:0", { kind: "user", forwards }),
      { slot: "3:0", type: "ahci-hd", path: disk },
    ];
    const within = [...place.inside, ...as];
    const server = await start("second", "/dev/sda", devices, { within });
    await addressOf(server);
    expect(await bySsh("127.0.0.1", "hostname; id -un", 2222)).toBe("debian\nroot\n");
    expect(readFileSync(`/proc/${server.vm.pid}/status`, "utf8")).toMatch(/^Uid:\t65534\t65534/m);
    const shown = await server.ask("hdparm -I /dev/sda");
    expect(shown).not.toMatch(/incorrect|error|bad\/missing/i);
    expect(shown).toMatch(/Model Number: +BHYVE SATA DISK\s/);
    expect(shown).toMatch(/Serial Number: +BHYVE-/);
    expect(shown).toMatch(/device size with M = 1024\*1024: +1536 MBytes/);
    expect(shown).toMatch(/\*\tNative Command Queueing \(NCQ\)/);
    expect(shown).toMatch(/\*\tData Set Management TRIM supported/);
    expect(shown).toMatch(/Checksum: correct/);
    await treeHolds(server);
    expect(await bySsh("127.0.0.1", "hostname", 2222)).toBe("debian\n");
  },
  TEST_MS,
);

async function serveNbd(image: string): Promise<string> {
  const socket = inFolder("nbd.sock");
  const args = ["-f", "qcow2", "-t", "-k", socket, image];
  helpers.push(spawn("qemu-nbd", args, { stdio: "ignore" }));
  await listening(socket);
  return socket;
}

it(
  "qcow2 and NBD: two servers, one reached from the other by ssh through the switch",
  async () => {
    const image = await qcow2OfImage(inFolder("third.qcow2"));
    const served = await serveNbd(await qcow2OfImage(inFolder("fourth.qcow2")));
    const disk = (more: object) => ({ slot: "3:0", type: "virtio-blk", ...more });
    const [third, fourth] = await Promise.all([
      start("third", "/dev/vda", [disk({ path: image, format: "qcow2" }), SWITCH]),
      start("fourth", "/dev/vda", [disk({ path: served, format: "nbd" }), SWITCH]),
    ]);
    for (const [server, ip] of [
      [third, "10.8.0.3"],
      [fourth, "10.8.0.4"],
    ] as const) {
      const name = await interfaceAt(server, "10.0");
      await server.ask(`ip link set ${name} up; ip address add ${ip}/24 dev ${name}`);
    }
    const options = "-q -o BatchMode=yes -o StrictHostKeyChecking=no";
    await fourth.ask("echo of the fourth > /root/name");
    expect(await third.ask(`ssh ${options} 10.8.0.4 cat /root/name`)).toBe("of the fourth\n");
    const pipe = `head -c ${8 * MIB} /dev/urandom > /tmp/x; md5sum < /tmp/x`;
    const sum = await third.ask(pipe);
    expect(await third.ask(`ssh ${options} 10.8.0.4 md5sum < /tmp/x`)).toBe(sum);
    await Promise.all([treeHolds(third), treeHolds(fourth)]);
    await third.end();
    execFileSync("qemu-img", ["check", "-f", "qcow2", image], { stdio: "ignore" });
  },
  TEST_MS,
);
