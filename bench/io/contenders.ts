// Two guests that differ in nothing but whose virtual machine they are in: the same kernel and initrd, a
// raw and a qcow2 disk of equal content, a UART that ends in a file, and a card on a tap of the same
// namespace.
import { spawn } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { parse, VmDefinition } from "../../api-schema/index.js";
import type { Namespace } from "../../test/guest/network.js";
import { VmProcess } from "../../test/guest/vm-process.js";
import { type Contender, overConsole, overPipes } from "../contender.js";
import { DISKS, type DiskFormat, type Images } from "./images.js";

const MIB = 2 ** 20;
const MEMORY = 256 * MIB;

export interface Place {
  readonly images: Images;
  /** Its own, for copies of the disks and what a UART said. */
  readonly folder: string;
  readonly disks: Readonly<Record<DiskFormat, string>>;
  readonly namespace: Namespace;
  readonly tap: string;
  /** The host's address on the tap, and the guest's. */
  readonly host: string;
  readonly guest: string;
}

export interface IoContender extends Contender {
  readonly place: Place;
}

export const serialFile = ({ folder }: Place): string => join(folder, "serial");

/** What the kernel does not know, /init finds in its environment. */
const commandLine = ({ guest }: Place): string =>
  `console=ttyS0 quiet loglevel=0 address=${guest}/24`;

const define = (place: Place): VmDefinition =>
  parse(VmDefinition, {
    name: "bench",
    uuid: "11111111-2222-4333-8444-777777777777",
    memory: MEMORY,
    accelerator: "soft",
    boot: {
      kind: "linux",
      kernel: place.images.kernel,
      initrd: place.images.initrd,
      cmdline: commandLine(place),
    },
    serial: {
      com1: { backend: "console" },
      com2: { backend: "file", path: serialFile(place) },
    },
    devices: [
      { slot: "0:0", type: "hostbridge" },
      { slot: "2:0", type: "virtio-net", backend: { kind: "tap", interface: place.tap } },
      ...DISKS.map((format, index) => ({
        slot: `${3 + index}:0`,
        type: "virtio-blk",
        path: place.disks[format],
        format,
      })),
      { slot: "31:0", type: "lpc" },
    ],
  });

export async function ours(place: Place): Promise<IoContender> {
  mkdirSync(place.folder, { recursive: true });
  const console = join(place.folder, "console");
  const vm = await VmProcess.launch({
    folder: join(place.folder, "vm"),
    definition: define(place),
    console,
    within: place.namespace.inside,
  });
  await vm.connection.call("start", {});
  return { ...overConsole(vm, console), place };
}

const disk = (format: DiskFormat, file: string, index: number): string[] => [
  ...["-drive", `if=none,id=d${index},file=${file},format=${format},cache=writeback,aio=threads`],
  ...["-device", `virtio-blk-pci,drive=d${index},num-queues=1,disable-legacy=on,addr=${3 + index}`],
];

export function qemu(place: Place): IoContender {
  const { kernel, initrd } = place.images;
  const card = `tap,id=n,ifname=${place.tap},script=no,downscript=no,vhost=off,vnet_hdr=on`;
  const args = [
    ...["-accel", "tcg,thread=multi", "-cpu", "max", "-m", `${MEMORY / MIB}`],
    ...["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"],
    ...["-serial", "stdio", "-serial", `file:${serialFile(place)}`],
    ...["-kernel", kernel, "-initrd", initrd, "-append", commandLine(place)],
    ...["-netdev", card, "-device", "virtio-net-pci,netdev=n,disable-legacy=on,addr=2"],
    ...DISKS.flatMap((format, index) => disk(format, place.disks[format], index)),
  ];
  const [program = "", ...words] = [...place.namespace.inside, "qemu-system-x86_64", ...args];
  // `ip netns exec` becomes the program
  const child = spawn(program, words, { stdio: ["pipe", "pipe", "inherit"] });
  return { ...overPipes("qemu", child), place };
}
