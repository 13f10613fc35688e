import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import { acceleratorNames, cpuModelNames } from "../../api-schema/definition.js";
import { DISK_OPTIONS } from "./disk-option.js";
import { getopt, UsageError } from "./getopt.js";
import {
  DEVICE_NAMES,
  parseCount,
  parseFirmware,
  parseLpcOption,
  parseMemory,
  parseSlotOption,
} from "./grammar.js";
import { NETWORKS } from "./net-option.js";
import { LONG, parseCommand, SHORT } from "./options.js";
import { USAGE } from "./usage.js";

const failure = (act: () => unknown): readonly [string, number] | undefined => {
  try {
    act();
  } catch (error) {
    if (error instanceof UsageError) return [error.message, error.exitStatus];
    throw error;
  }
  return undefined;
};

const MIB = 2 ** 20;
const GIB = 2 ** 30;

describe("-m", () => {
  it.each([
    ["256", 256 * MIB],
    ["0x100", 256 * MIB],
    ["0400", 256 * MIB],
    ["1048576", MIB],
    ["2097152", 2 * MIB],
    ["1g", GIB],
    ["1G", GIB],
    ["524288k", 512 * MIB],
    ["1GB", GIB],
    ["1Gxyz", GIB],
    ["1t", 2 ** 40],
    ["1048576b", MIB],
    ["", 0],
  ])("%j is %d bytes", (text, bytes) => expect(parseMemory(text)).toBe(bytes));

  it.each(["1.5G", "1x", "99999999999999999999", "16e", "g1x", "08"])("%j is refused", (text) => {
    const outcome = failure(() => parseMemory(text));
    if (text === "g1x") expect(parseMemory(text)).toBe(0);
    else expect(outcome).toEqual([`invalid memsize '${text}'`, 64]);
  });
});

describe("-s", () => {
  it.each([
    ["2,lpc", "0:2:0"],
    ["2:1,lpc", "0:2:1"],
    ["0:2:1,lpc", "0:2:1"],
    ["7:2:0,lpc", "7:2:0"],
    ["2x,lpc", "0:2:0"],
    ["31,hostbridge,ignored,config", "0:31:0"],
  ])("%s is slot %s", (text, slot) => expect(parseSlotOption(text, []).slot).toBe(slot));

  it("gives a disk its options, and the serial number of all that was said", () => {
    const serial = (text: string): string => {
      const hash = createHash("sha256").update(text).digest("hex").toUpperCase();
      return `BHYVE-${hash.slice(0, 4)}-${hash.slice(4, 8)}-${hash.slice(8, 12)}`;
    };
    const disk = { slot: "0:4:0", type: "virtio-blk", path: "/d" };
    expect(parseSlotOption("4,virtio-blk,/d", [])).toEqual({ ...disk, serial: serial("/d") });
    expect(parseSlotOption("4,virtio-blk,/d,ro,direct,sectorsize=512/4096", [])).toEqual({
      ...disk,
      serial: serial("/d,ro,direct,sectorsize=512/4096"),
      readOnly: true,
      sync: true,
      logicalSector: 512,
      physicalSector: 4096,
    });
    expect(parseSlotOption("4,virtio-blk,/d,sectorsize=4096", [])).toMatchObject({
      logicalSector: 4096,
      physicalSector: 4096,
    });
  });

  it("knows AHCI with one port and with several", () => {
    expect(parseSlotOption("4,ahci-hd,/d,ro", [])).toMatchObject({
      slot: "0:4:0",
      type: "ahci-hd",
      path: "/d",
      readOnly: true,
      serial: expect.stringMatching(/^BHYVE-/),
    });
    expect(parseSlotOption("4,ahci-cd,/c.iso", [])).toMatchObject({
      type: "ahci-cd",
      path: "/c.iso",
    });
    expect(parseSlotOption("4,ahci-cd", [])).not.toHaveProperty("path");
    expect(parseSlotOption("4,ahci,hd:/a,sectorsize=4096,cd:,hd:/b", [])).toMatchObject({
      type: "ahci",
      ports: [
        { type: "hd", path: "/a", logicalSector: 4096 },
        { type: "cd" },
        { type: "hd", path: "/b" },
      ],
    });
    expect(parseSlotOption("4,dummy", [])).toEqual({ slot: "0:4:0", type: "dummy" });
  });

  it("knows the other virtio devices", () => {
    expect(parseSlotOption("4,virtio-rnd", [])).toEqual({ slot: "0:4:0", type: "virtio-rnd" });
    expect(parseSlotOption("4,virtio-console,stdio", [])).toEqual({
      slot: "0:4:0",
      type: "virtio-console",
      serial: { backend: "stdio" },
    });
  });

  const NET = { slot: "0:2:0", type: "virtio-net" };
  it.each([
    // The originals': xhyve's bare vmnet, HyperKit's empty word, and a tap by its name.
    ["virtio-net", NET],
    ["virtio-net,", NET],
    ["virtio-net,tap3", { ...NET, backend: { kind: "tap", interface: "tap3" } }],
    ["virtio-tap,tap0", { ...NET, backend: { kind: "tap", interface: "tap0" } }],
    [
      "virtio-tap,br0p1,bridge=br0",
      { ...NET, backend: { kind: "tap", interface: "br0p1", bridge: "br0" } },
    ],
    ["virtio-net,tap", { ...NET, backend: { kind: "tap" } }],
    ["virtio-net,mac=0:1:2:a:B:ff", { ...NET, mac: "00:01:02:0a:0b:ff" }],
    ["virtio-net,,mac=02:00:00:00:00:01,mtu=9000", { ...NET, mac: "02:00:00:00:00:01", mtu: 9000 }],
    ["virtio-vmnet", { ...NET, backend: { kind: "vmnet", mode: "shared" } }],
    ["virtio-vmnet,host", { ...NET, backend: { kind: "vmnet", mode: "host" } }],
    [
      "virtio-net,vmnet=bridged:en0",
      { ...NET, backend: { kind: "vmnet", mode: "bridged", interface: "en0" } },
    ],
    ["virtio-net,switch=lan", { ...NET, backend: { kind: "switch", network: "lan" } }],
    ["virtio-net,stream=/run/a=b", { ...NET, backend: { kind: "stream", socket: "/run/a=b" } }],
    ["virtio-net,none", { ...NET, backend: { kind: "none" } }],
    ["virtio-net,user", { ...NET, backend: { kind: "user" } }],
    [
      "virtio-net,user,tcp=2222:22,udp=::1/53:53",
      {
        ...NET,
        backend: {
          kind: "user",
          forwards: [
            { protocol: "tcp", host: 2222, guest: 22 },
            { protocol: "udp", address: "::1", host: 53, guest: 53 },
          ],
        },
      },
    ],
    [
      "virtio-sock,guest_cid=3,path=/run/s",
      { slot: "0:2:0", type: "virtio-sock", cid: 3, socket: "/run/s" },
    ],
    ["virtio-rnd,ignored", { slot: "0:2:0", type: "virtio-rnd" }],
    ["dummy", { slot: "0:2:0", type: "dummy" }],
    ["lpc", { slot: "0:2:0", type: "lpc" }],
    ["amd_hostbridge", { slot: "0:2:0", type: "amd_hostbridge" }],
  ])("2,%s", (text, device) => expect(parseSlotOption(`2,${text}`, [])).toEqual(device));

  it.each([
    ["nocache", { direct: true }],
    ["direct", { sync: true }],
    ["sync,ro", { sync: true, readOnly: true }],
    ["format=qcow", { format: "qcow2" }],
    ["format=nbd,export=a=b", { format: "nbd", export: "a=b" }],
    [
      "format=qcow2,backing=qcow2:/b,backing=raw:/c:d",
      {
        backing: [
          { format: "qcow2", path: "/b" },
          { format: "raw", path: "/c:d" },
        ],
      },
    ],
    ["scratch=/tmp", { scratch: "/tmp" }],
  ])("a disk with %s", (options, disk) => {
    for (const device of ["virtio-blk", "ahci-hd"])
      expect(parseSlotOption(`2,${device},/d,${options}`, [])).toMatchObject({
        path: "/d",
        ...disk,
      });
  });

  it("gives a UART its backend", () => {
    expect(parseSlotOption("2,uart,stdio,log=/l", [])).toEqual({
      slot: "0:2:0",
      type: "uart",
      serial: { backend: "stdio", log: "/l" },
    });
    expect(parseSlotOption("2:3,uart", [])).toMatchObject({ serial: { backend: "none" } });
    expect(failure(() => parseSlotOption("2,uart,x", []))).toEqual([
      "Unable to initialize backend 'x' for PCI UART 2:0",
      1,
    ]);
  });

  it.each([
    ["2", 'Invalid PCI slot info field "2"'],
    ["32,lpc", 'Invalid PCI slot info field "32"'],
    ["2:8,lpc", 'Invalid PCI slot info field "2:8"'],
    ["256:1:1,lpc", 'Invalid PCI slot info field "256:1:1"'],
    ["-1,lpc", 'Invalid PCI slot info field "-1"'],
    ["x,lpc", 'Invalid PCI slot info field "x"'],
    ["5,lpc", "pci slot 5:0 already occupied!"],
    ["2:1,nothing", 'pci slot 2:1: unknown device "nothing"'],
    ["2,e1000", "not built yet: e1000"],
    ["2,virtio-blk", "pci slot 0:2:0: virtio-blk needs a path"],
    ["2,ahci-hd", "pci_ahci: backing device required"],
    ["2,ahci,/d", "pci_ahci: hd:PATH or cd:[PATH] expected for each port"],
    ["2,virtio-blk,d,cached", 'Invalid device option "cached"'],
    ["2,virtio-blk,d,format=vmdk", 'Invalid device option "format=vmdk"'],
    ["2,virtio-blk,d,backing=/b", 'Invalid device option "backing=/b"'],
    ["2,virtio-blk,d,ro=1", 'Invalid device option "ro=1"'],
    ["2,virtio-net,mac=1:2:3", 'Invalid MAC address "1:2:3"'],
    ["2,virtio-net,mac=1:0:0:0:0:0", 'Invalid MAC address "1:0:0:0:0:0"'],
    ["2,virtio-net,mac=0:0:0:0:0:0", 'Invalid MAC address "0:0:0:0:0:0"'],
    ["2,virtio-net,tcp=22:22", 'Invalid device option "tcp or udp without its backend"'],
    ["2,virtio-net,user,tcp=22", 'Invalid device option "tcp=22"'],
    ["2,virtio-net,user,bridge=br0", 'Invalid device option "bridge without its backend"'],
    ["2,virtio-net,switch=", 'Invalid device option "switch="'],
    ["2,virtio-net,stream", 'Invalid device option "stream"'],
    ["2,virtio-net,vmnet=bridged", 'Invalid device option "vmnet=bridged"'],
    ["2,virtio-vmnet,none", 'Invalid device option "none"'],
    ["2,virtio-net,wifi", 'Invalid device option "wifi"'],
    ["2,virtio-tap", "pci slot 0:2:0: virtio-tap needs a tap"],
    ["2,virtio-sock,guest_cid=3", "pci slot 0:2:0: virtio-sock needs guest_cid= and path="],
    ["2,virtio-sock,cid=3", 'Invalid device option "cid"'],
    ["2,virtio-9p,share=/s", "not built yet: virtio-9p"],
    ["2,virtio-blk,d,sectorsize=x", 'Invalid device option "sectorsize=x"'],
  ])("%s is refused", (text, message) => {
    const taken = [{ slot: "0:5:0", type: "lpc" as const }];
    expect(failure(() => parseSlotOption(text, taken))).toEqual([message, 1]);
  });
});

describe("-l", () => {
  it.each([
    ["com1,stdio", { port: "com1", backend: { backend: "stdio" } }],
    ["COM2,autopty", { port: "com2", backend: { backend: "pty" } }],
    ["com1,autopty=/tmp/x", { port: "com1", backend: { backend: "pty", path: "/tmp/x" } }],
    ["com1,file=/a=b", { port: "com1", backend: { backend: "file", path: "/a=b" } }],
    ["com1,log=/l,autopty", { port: "com1", backend: { backend: "pty", log: "/l" } }],
    ["com2,/dev/ttyS9", { port: "com2", backend: { backend: "terminal", path: "/dev/ttyS9" } }],
    ["com2,null,log=/l", { port: "com2", backend: { backend: "none", log: "/l" } }],
    ["com1", { port: "com1", backend: { backend: "none" } }],
    ["debugexit", { device: "debugexit" }],
    ["testdev", { device: "testdev" }],
  ])("%s", (text, option) => expect(parseLpcOption(text)).toEqual(option));

  it.each([
    ["com3,stdio", "invalid lpc device configuration 'com3,stdio'", 64],
    ["bootrom,x", "not built yet: bootrom", 1],
    ["com1,tty9", "Unable to initialize backend 'tty9' for LPC device COM1", 1],
    ["com2,log", "Unable to initialize backend 'log' for LPC device COM2", 1],
    ["com1,stdio,autopty", "Unable to initialize backend 'stdio,autopty' for LPC device COM1", 1],
    ["com1,asl", "not built yet: the serial backend asl", 1],
  ])("%s is refused", (text, message, status) =>
    expect(failure(() => parseLpcOption(text))).toEqual([message, status]),
  );
});

describe("-f", () => {
  it.each([
    ["kexec,k,i,a b,c", { kind: "linux", kernel: "k", initrd: "i", cmdline: "a b,c" }],
    ["kexec,k,,c", { kind: "linux", kernel: "k", cmdline: "c" }],
    ["kexec,k", { kind: "linux", kernel: "k" }],
    [
      "multiboot,k,a;x y:b,c,d",
      {
        kind: "multiboot",
        kernel: "k",
        modules: [{ file: "a", args: "x y" }, { file: "b" }],
        cmdline: "c,d",
      },
    ],
    ["multiboot,k", { kind: "multiboot", kernel: "k", modules: [] }],
  ])("%s", (text, firmware) => expect(parseFirmware(text)).toEqual(firmware));

  it.each(["kexec", "kexec,,i,c", "grub,k", "", "multiboot,k,a::b"])("%j is refused", (text) => {
    expect(failure(() => parseFirmware(text))?.[0]).toContain("kexec,KERNEL");
  });

  it("names what is not built", () => {
    expect(failure(() => parseFirmware("fbsd,a,b,c"))).toEqual(["not built yet: fbsd", 1]);
    expect(failure(() => parseFirmware("bootrom,x"))).toEqual(["not built yet: bootrom", 1]);
  });
});

describe("getopt", () => {
  const all = (...words: string[]) => [...getopt(words, "ab:", { long: false, value: true })];

  it("takes bundles, arguments in the word or after it, and stops at the first other word", () => {
    expect(all("-ab5", "-b", "-x", "rest", "-a")).toEqual([
      { name: "a", value: "" },
      { name: "b", value: "5" },
      { name: "b", value: "-x" },
    ]);
    expect(all("-a", "--", "-a")).toHaveLength(1);
    expect(all("-", "-a")).toHaveLength(0);
  });

  it("takes long options", () => {
    expect(all("--long", "--value", "1", "--value=a=b")).toEqual([
      { name: "long", value: "" },
      { name: "value", value: "1" },
      { name: "value", value: "a=b" },
    ]);
  });

  it.each([["-c"], ["-b"], ["-:"], ["--none"], ["--value"], ["--toString"]])("refuses %s", (word) =>
    expect(failure(() => all(word))?.[1]).toBe(1),
  );
});

describe("the command line", () => {
  const definition = (...words: string[]) => parseCommand([...words, "-f", "kexec,k"]).definition;

  it("is the reference's Linux line", () => {
    const words = "-A -m 1G -c 2 -u -s 0:0,hostbridge -s 31,lpc -l com1,stdio -f kexec,k,i,a b";
    const command = parseCommand([...words.split(" ").slice(0, -1).slice(0, -1), "kexec,k,i,a b"]);
    expect(command.definition).toMatchObject({
      cpus: 2,
      memory: GIB,
      boot: { kernel: "k", initrd: "i", cmdline: "a b" },
      devices: [
        { slot: "0:0:0", type: "hostbridge" },
        { slot: "0:31:0", type: "lpc" },
      ],
      serial: { com1: { backend: "stdio" }, com2: { backend: "none" } },
      firmware: { acpi: true, mpTable: true, rtc: "utc" },
    });
  });

  it("has the original's defaults", () => {
    expect(definition()).toMatchObject({
      cpus: 1,
      memory: 256 * MIB,
      accelerator: "auto",
      cpuModel: "stable",
      devices: [],
      firmware: {
        acpi: false,
        mpTable: true,
        x2apic: false,
        rtc: "localtime",
        strictIo: false,
        ignoreUnknownMsrs: false,
      },
    });
  });

  it("takes the host's CPU with --cpu", () => {
    expect(definition("--accel", "kvm", "--cpu", "host")).toMatchObject({
      accelerator: "kvm",
      cpuModel: "host",
    });
  });

  it("takes -Y bare, and bundles", () => {
    expect(definition("-YxewACHP")?.firmware).toMatchObject({
      acpi: true,
      mpTable: false,
      x2apic: true,
      strictIo: true,
      ignoreUnknownMsrs: true,
    });
  });

  it("takes MSI-X from virtio devices with -W, and asks for an address with -M", () => {
    expect(definition()?.virtioMsix).toBe(true);
    expect(definition("-W")?.virtioMsix).toBe(false);
    const words = ["-M", "-s", "2,virtio-net,none", "-f", "kexec,k"];
    expect(parseCommand(words)).toMatchObject({ action: "run", printMac: true });
  });

  it("has a usage text that names all of it", () => {
    const short = [...SHORT.replaceAll(":", "")].filter((letter) => !"bg".includes(letter));
    const long = Object.keys(LONG).filter((name) => name !== "version");
    const words = [
      ...short.map((letter) => `-${letter}`),
      ...long.map((name) => `--${name}`),
      ...DEVICE_NAMES,
      ...DISK_OPTIONS,
      ...NETWORKS,
      ...acceleratorNames,
      ...cpuModelNames,
      ...["backing=", "mac=", "mtu=", "tcp=", "udp=", "bridge=", "debugexit", "testdev"],
    ];
    const named = new Set(USAGE.match(/(?:--?)?[A-Za-z][\w-]*=?/g));
    const missing = words.filter((word) => !named.has(word) && !named.has(`${word}=`));
    expect(missing).toEqual([]);
    for (const line of USAGE.split("\n")) expect(line.length).toBeLessThan(100);
  });

  it("has the same UUID on every run, or the one given", () => {
    expect(definition()?.uuid).toBe(definition()?.uuid);
    const uuid = "01234567-89ab-cdef-0123-456789abcdef";
    expect(definition("-U", uuid)?.uuid).toBe(uuid);
  });

  it.each([
    [["-c", "0"], "Invalid guest vCPUs (0)", 1],
    [["-c", "x"], "Invalid guest vCPUs (0)", 1],
    [["-c", "65"], "65 vCPUs requested but only 64 available", 1],
    [["-m", "1.5G"], "invalid memsize '1.5G'", 64],
    [["-m", "0"], "Unable to setup memory (0 bytes", 1],
    [["-m", "1e"], "Unable to setup memory (1152921504606847000 bytes", 1],
    [["-b"], "not built yet: -b", 1],
    [["-g", "1234"], "not built yet: -g", 1],
    [["-U", "x"], "xhyve.uuid: must be a UUID", 1],
    [["--accel", "fast"], "xhyve.accelerator: must be one of auto, soft, kvm, hvf", 1],
    [["--cpu", "fast"], "xhyve.cpuModel: must be one of stable, host", 1],
  ] as const)("%j is refused", (words, message, status) => {
    const [text, code] = failure(() => definition(...words)) ?? ["accepted", 0];
    expect(text).toContain(message);
    expect(code).toBe(status);
  });

  it("needs firmware, or a saved state", () => {
    expect(failure(() => parseCommand([]))).toEqual(["", 1]);
    expect(parseCommand(["--restore", "x"])).toMatchObject({ restore: "x", definition: undefined });
  });

  it.each([
    ["-h", "short-help"],
    ["-v", "version"],
    ["--help", "help"],
  ])("%s asks for no firmware", (word, action) => expect(parseCommand([word]).action).toBe(action));

  it("counts as atoi does", () => {
    expect(["4", " 4x", "-1", "", "x"].map(parseCount)).toEqual([4, 4, -1, 0, 0]);
  });
});
