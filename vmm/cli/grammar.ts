// The small languages of bhyve's options: -m, -s, -l and -f, with the original's messages.
import type { SerialPort, VmDefinition } from "../../api-schema/definition.js";
import { parseAhciDisk, parseAhciDrive, parseAhciPorts } from "./ahci-option.js";
import { parseDiskOptions } from "./disk-option.js";
import { UsageError } from "./getopt.js";
import { parseNet, parseSock } from "./net-option.js";

const EX_USAGE = 64;
const MIB = 2n ** 20n;
const UNITS = "bkmgtpe";

const notBuilt = (name: string): UsageError => new UsageError(`not built yet: ${name}`);

/**
 * strtoul with base 0, then a unit of which one letter counts. A bare number below 1 MiB is in MiB.
 * Zero and what no host has are for the machine to refuse.
 */
export function parseMemory(text: string): number {
  const match = /^\s*\+?(0x[0-9a-f]+|[0-9]+)?(.*)$/is.exec(text);
  const digits = match?.[1] ?? "0";
  const unit = (match?.[2] ?? "").charAt(0).toLowerCase();
  const octal = /^0[0-7]+$/.test(digits);
  const invalid = new UsageError(`invalid memsize '${text}'`, EX_USAGE);
  if (/^0[0-9]+$/.test(digits) && !octal) throw invalid;
  const number = BigInt(octal ? `0o${digits.slice(1)}` : digits);
  const shift = unit === "" ? 0 : UNITS.indexOf(unit);
  if (shift < 0) throw invalid;
  const bare = unit === "" && number < MIB;
  const bytes = bare ? number * MIB : number << BigInt(10 * shift);
  if (bytes >= 2n ** 64n) throw invalid;
  return Number(bytes);
}

/** atoi. */
export const parseCount = (text: string): number => {
  const match = /^\s*([+-]?[0-9]+)/.exec(text);
  return match === null ? 0 : Number(match[1]);
};

type Device = VmDefinition["devices"][number];
/** Types that take no options. */
const PLAIN = ["hostbridge", "amd_hostbridge", "lpc", "dummy", "virtio-rnd"] as const;
const LATER = ["virtio-vpnkit", "virtio-9p", "e1000", "fbuf"];

/** sscanf("%d:%d:%d"), then two numbers, then one; what follows is ignored. */
function parseAddress(text: string): readonly [number, number, number] {
  const number = "\\s*([+-]?[0-9]+)";
  const three = new RegExp(`^${number}:${number}:${number}`).exec(text);
  const two = new RegExp(`^${number}:${number}`).exec(text);
  const one = new RegExp(`^${number}`).exec(text);
  const found = (three ?? two ?? one)?.slice(1).map(Number);
  const [bus = -1, slot = -1, fn = -1] =
    found === undefined ? [] : found.length === 3 ? found : [0, found[0], found[1] ?? 0];
  const good = bus >= 0 && bus <= 255 && slot >= 0 && slot <= 31 && fn >= 0 && fn <= 7;
  if (!good) throw new UsageError(`Invalid PCI slot info field "${text}"`);
  return [bus, slot, fn];
}

export function parseSlotOption(text: string, taken: readonly Device[]): Device {
  const comma = text.indexOf(",");
  if (comma < 0) throw new UsageError(`Invalid PCI slot info field "${text}"`);
  const [bus, slot, fn] = parseAddress(text.slice(0, comma));
  const [name = "", ...config] = text.slice(comma + 1).split(",");
  const address = `${bus}:${slot}:${fn}`;
  if (taken.some((device) => device.slot === address)) {
    throw new UsageError(`pci slot ${slot}:${fn} already occupied!`);
  }
  if (LATER.includes(name)) throw notBuilt(name);
  const read = Object.hasOwn(DEVICES, name) ? DEVICES[name] : undefined;
  if (read) return read(address, config, `${slot}:${fn}`);
  const type = PLAIN.find((one) => one === name);
  if (type === undefined) {
    throw new UsageError(`pci slot ${slot}:${fn}: unknown device "${name}"`);
  }
  return { slot: address, type };
}

/** `slot` in full, the words behind the type, and the slot as messages name it. */
type ReadDevice = (slot: string, words: readonly string[], where: string) => Device;

const DEVICES: Readonly<Record<string, ReadDevice>> = {
  uart: (slot, words, where) => ({
    slot,
    type: "uart",
    serial: parseBackends(words, `PCI UART ${where}`),
  }),
  "virtio-blk": (slot, words) => {
    const source = parseDiskOptions(words);
    if (source === undefined) throw new UsageError(`pci slot ${slot}: virtio-blk needs a path`);
    return { slot, type: "virtio-blk", ...source };
  },
  "virtio-net": (slot, words) => parseNet(slot, "virtio-net", words),
  "virtio-tap": (slot, words) => parseNet(slot, "virtio-tap", words),
  "virtio-vmnet": (slot, words) => parseNet(slot, "virtio-vmnet", words),
  "virtio-sock": parseSock,
  "virtio-console": (slot, words, where) => ({
    slot,
    type: "virtio-console",
    serial: parseBackends(words, `virtio-console ${where}`),
  }),
  "ahci-hd": (slot, words) => ({ slot, type: "ahci-hd", ...parseAhciDisk(words) }),
  "ahci-cd": (slot, words) => ({ slot, type: "ahci-cd", ...parseAhciDrive(words) }),
  ahci: (slot, words) => ({ slot, type: "ahci", ports: parseAhciPorts(words) }),
};

/** Every word that -s takes for a device. */
export const DEVICE_NAMES: readonly string[] = [...PLAIN, ...Object.keys(DEVICES)];

export type LpcOption =
  | { readonly port: "com1" | "com2"; readonly backend: SerialPort }
  | { readonly device: "debugexit" | "testdev" };

export function parseLpcOption(text: string): LpcOption {
  const [name = "", ...rest] = text.split(",");
  const lower = name.toLowerCase();
  if (lower === "com1" || lower === "com2") {
    return { port: lower, backend: parseBackends(rest, `LPC device ${name.toUpperCase()}`) };
  }
  if ((lower === "debugexit" || lower === "testdev") && rest.length === 0) return { device: lower };
  if (lower === "bootrom") throw notBuilt("bootrom");
  throw new UsageError(`invalid lpc device configuration '${text}'`, EX_USAGE);
}

/** HyperKit's list: one thing at the other end of the cable, and a log of what goes out. */
function parseBackends(words: readonly string[], device: string): SerialPort {
  const text = words.join(",");
  const cannot = new UsageError(`Unable to initialize backend '${text}' for ${device}`);
  const options = words.map((word) => parseBackend(word) ?? fail(cannot));
  if (options.filter((one) => one.backend !== undefined).length > 1) throw cannot;
  return Object.assign({ backend: "none" }, ...options);
}

function fail(error: Error): never {
  throw error;
}

/** The path is the rest of the word, equals signs and all. */
function parseBackend(word: string): Partial<SerialPort> | undefined {
  const [kind = "", ...rest] = word.split("=");
  const path = rest.length === 0 ? {} : { path: rest.join("=") };
  switch (kind) {
    case "":
    case "null":
      return {};
    case "stdio":
      return { backend: "stdio" };
    case "autopty":
      return { backend: "pty", ...path };
    case "file":
    case "socket":
      return { backend: kind, ...path };
    case "log":
      return path.path === undefined ? undefined : { log: path.path };
    case "asl":
      throw notBuilt("the serial backend asl");
    default:
      return word.includes("/") ? { backend: "terminal", path: word } : undefined;
  }
}

export type Firmware = VmDefinition["boot"];

const FORMS = [
  "-f: needs one of",
  "  kexec,KERNEL[,INITRD[,CMDLINE]]",
  "  multiboot,KERNEL[,MODULE[;ARGS][:MODULE[;ARGS]]...[,CMDLINE]]",
].join("\n");

const given = <K extends string>(key: K, value: string | undefined): { [P in K]?: string } =>
  value === undefined || value === "" ? {} : ({ [key]: value } as { [P in K]?: string });

export function parseFirmware(text: string): Firmware {
  const [kind = "", file = "", second, ...last] = text.split(",");
  const cmdline = last.length === 0 ? undefined : last.join(",");
  if (kind.startsWith("fbsd") || kind.startsWith("bootrom")) {
    throw notBuilt(kind.startsWith("fbsd") ? "fbsd" : "bootrom");
  }
  if (file === "") throw new UsageError(FORMS);
  if (kind.startsWith("kexec")) {
    const initrd = given("initrd", second);
    return { kind: "linux", kernel: file, ...initrd, ...given("cmdline", cmdline) };
  }
  if (!kind.startsWith("multiboot")) throw new UsageError(FORMS);
  const modules = second === undefined || second === "" ? [] : second.split(":").map(parseModule);
  return { kind: "multiboot", kernel: file, modules, ...given("cmdline", cmdline) };
}

function parseModule(text: string): { file: string; args?: string } {
  const [file = "", ...args] = text.split(";");
  if (file === "") throw new UsageError(FORMS);
  return { file, ...given("args", args.length === 0 ? undefined : args.join(";")) };
}
