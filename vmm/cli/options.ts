// The command line of bin/xhyve as one record, and from there to a definition.
import { createHash } from "node:crypto";
import { hostname } from "node:os";
import {
  type AcceleratorName,
  type CpuModelName,
  type VmDefinition as Vm,
  VmDefinition,
} from "../../api-schema/definition.js";
import { VmError } from "../../api-schema/errors.js";
import { parse } from "../../api-schema/validate.js";
import { getopt, UsageError } from "./getopt.js";
import {
  type Firmware,
  parseCount,
  parseFirmware,
  parseLpcOption,
  parseMemory,
  parseSlotOption,
} from "./grammar.js";
import { withRandomMacs } from "./net-option.js";

const MAX_CPUS = 64;
const MIB = 2 ** 20;
const MAX_MEMORY = 2 ** 40;

interface Settings {
  action: "run" | "help" | "short-help" | "version";
  acpi: boolean;
  cpus: string;
  memory: number;
  devices: Vm["devices"];
  com1: Vm["serial"]["com1"];
  com2: Vm["serial"]["com2"];
  debugexit: boolean;
  testdev: boolean;
  firmware: Firmware | undefined;
  uuid: string | undefined;
  strictIo: boolean;
  ignoreUnknownMsrs: boolean;
  x2apic: boolean;
  utc: boolean;
  mpTable: boolean;
  virtioMsix: boolean;
  pidFile: string | undefined;
  reboot: boolean;
  accelerator: string;
  cpuModel: string;
  events: string | undefined;
  restore: string | undefined;
  printMac: boolean;
}

const defaults = (): Settings => ({
  action: "run",
  acpi: false,
  cpus: "1",
  memory: 256 * MIB,
  devices: [],
  com1: { backend: "none" },
  com2: { backend: "none" },
  debugexit: false,
  testdev: false,
  firmware: undefined,
  uuid: undefined,
  strictIo: false,
  ignoreUnknownMsrs: false,
  x2apic: false,
  utc: false,
  mpTable: true,
  virtioMsix: true,
  pidFile: undefined,
  reboot: false,
  accelerator: "auto",
  cpuModel: "stable",
  events: undefined,
  restore: undefined,
  printMac: false,
});

type Apply = (settings: Settings, value: string) => void;

const later =
  (flag: string): Apply =>
  () => {
    throw new UsageError(`not built yet: ${flag}`);
  };
const accepted: Apply = () => {};

function applyLpc(settings: Settings, value: string): void {
  const option = parseLpcOption(value);
  if ("device" in option) settings[option.device] = true;
  else settings[option.port] = option.backend;
}

/** Every flag of the original, and ours with two dashes. */
const APPLY: Readonly<Record<string, Apply>> = {
  A: (to) => {
    to.acpi = true;
  },
  b: later("-b"),
  c: (to, value) => {
    to.cpus = value;
  },
  C: accepted, // the original's own reads it nowhere
  e: (to) => {
    to.strictIo = true;
  },
  f: (to, value) => {
    to.firmware = parseFirmware(value);
  },
  F: (to, value) => {
    to.pidFile = value;
  },
  g: later("-g"),
  h: (to) => {
    to.action = "short-help";
  },
  H: accepted, // HLT always yields the host's CPU here
  l: applyLpc,
  m: (to, value) => {
    to.memory = parseMemory(value);
  },
  M: (to) => {
    to.printMac = true;
  },
  P: accepted, // PAUSE yields when vCPUs outnumber cores, without being asked
  s: (to, value) => {
    to.devices.push(parseSlotOption(value, to.devices));
  },
  u: (to) => {
    to.utc = true;
  },
  U: (to, value) => {
    to.uuid = value;
  },
  v: (to) => {
    to.action = "version";
  },
  w: (to) => {
    to.ignoreUnknownMsrs = true;
  },
  W: (to) => {
    to.virtioMsix = false;
  },
  x: (to) => {
    to.x2apic = true;
  },
  Y: (to) => {
    to.mpTable = false;
  },
  reboot: (to) => {
    to.reboot = true;
  },
  accel: (to, value) => {
    to.accelerator = value;
  },
  cpu: (to, value) => {
    to.cpuModel = value;
  },
  "json-events": (to, value) => {
    to.events = value;
  },
  restore: (to, value) => {
    to.restore = value;
  },
  help: (to) => {
    to.action = "help";
  },
  version: (to) => {
    to.action = "version";
  },
};

export const SHORT = "behvuwxMACHPWYf:F:g:c:s:m:l:U:";
export const LONG = {
  reboot: false,
  accel: true,
  cpu: true,
  "json-events": true,
  restore: true,
  help: false,
  version: false,
};

export interface Command {
  readonly action: Settings["action"];
  readonly pidFile: string | undefined;
  readonly reboot: boolean;
  readonly events: string | undefined;
  readonly restore: string | undefined;
  /** Print the first card's MAC address instead of running (-M). */
  readonly printMac: boolean;
  /** Absent where nothing is to be run, or where a saved state has it. */
  readonly definition: Vm | undefined;
}

export function parseCommand(words: readonly string[]): Command {
  const settings = defaults();
  for (const { name, value } of getopt(words, SHORT, LONG)) {
    APPLY[name]?.(settings, value);
    if (settings.action !== "run") break;
  }
  const { action, pidFile, reboot, events, restore, printMac } = settings;
  const wanted = action === "run" && restore === undefined;
  const definition = wanted ? definitionOf(settings) : undefined;
  return { action, pidFile, reboot, events, restore, printMac, definition };
}

function definitionOf(settings: Settings): Vm {
  if (settings.firmware === undefined) throw new UsageError("", 1, true);
  checkCpus(parseCount(settings.cpus));
  checkMemory(settings.memory);
  const { acpi, mpTable, x2apic, strictIo, ignoreUnknownMsrs, utc } = settings;
  const rtc = utc ? "utc" : "localtime";
  try {
    return parse(
      VmDefinition,
      {
        name: "vm",
        uuid: settings.uuid ?? hostUuid(),
        cpus: parseCount(settings.cpus),
        memory: settings.memory,
        accelerator: settings.accelerator as AcceleratorName,
        cpuModel: settings.cpuModel as CpuModelName,
        boot: settings.firmware,
        devices: settings.uuid === undefined ? withRandomMacs(settings.devices) : settings.devices,
        serial: { com1: settings.com1, com2: settings.com2 },
        debugexit: settings.debugexit,
        testdev: settings.testdev,
        virtioMsix: settings.virtioMsix,
        firmware: { acpi, mpTable, x2apic, rtc, strictIo, ignoreUnknownMsrs },
      },
      "xhyve",
    );
  } catch (error) {
    if (error instanceof VmError) throw new UsageError(error.message);
    throw error;
  }
}

function checkCpus(cpus: number): void {
  if (cpus < 1) throw new UsageError(`Invalid guest vCPUs (${cpus})`);
  if (cpus > MAX_CPUS) {
    throw new UsageError(`${cpus} vCPUs requested but only ${MAX_CPUS} available`);
  }
}

function checkMemory(bytes: number): void {
  if (bytes >= MIB && bytes <= MAX_MEMORY && bytes % 4096 === 0) return;
  const wanted = "1 MiB to 1 TiB in pages of 4 KiB";
  throw new UsageError(`Unable to setup memory (${bytes} bytes; a guest has ${wanted})`);
}

/** The same for every run on this host, as the original's: of the VM's name and the host's. */
function hostUuid(): string {
  const hash = createHash("md5").update(`vm${hostname()}`).digest();
  hash[6] = ((hash[6] ?? 0) & 0x0f) | 0x30; // version 3
  hash[8] = ((hash[8] ?? 0) & 0x3f) | 0x80;
  return hash.toString("hex").replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
