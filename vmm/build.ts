// From a definition to a machine that stands ready: every check that can be made without running
// anything is made here, the cheap ones first.
import { cpuModelFault } from "../api-schema/cpu-model.js";
import type { VmDefinition } from "../api-schema/definition.js";
import { reasonOf, VmError } from "../api-schema/errors.js";
import { withoutMedia } from "../api-schema/media.js";
import type { Machine, MachineOptions } from "../native/types.js";
import { assemble, routing } from "./assembly.js";
import { OpenDisks } from "./disks.js";
import { type FirmwareTables, firmwareTables } from "./firmware/index.js";
import type { HostFiles } from "./host-files.js";
import { HostSockets } from "./host-sockets.js";
import { lowMemoryOf, pciMem64For } from "./layout.js";
import { type BootImages, imagesFrom, openImages } from "./loaders/index.js";
import { VirtualMachine } from "./machine.js";
import { Networks } from "./networks.js";
import type { SerialPorts } from "./process/serial.js";
import { lpcSlotOf, type PlacedDevice, placeDevices } from "./slots.js";
import { readState, type SavedMachine } from "./state-folder.js";

export interface BuildOptions {
  readonly createMachine: (options: MachineOptions) => Machine;
  /** Opened once the rest of the definition has been found good. */
  readonly openSerial: (files: HostFiles) => Promise<SerialPorts>;
  readonly files: HostFiles;
  readonly onReset: "restart" | "exit";
  readonly restore?: string | undefined;
}

export interface BuiltVm {
  readonly vm: VirtualMachine;
  readonly serial: SerialPorts;
  readonly networks: Networks;
}

const tell = (text: string): void => void process.stderr.write(`${text}\n`);

export async function buildVm(definition: VmDefinition, options: BuildOptions): Promise<BuiltVm> {
  const placed = placeDevices(definition.devices);
  checkSerial(definition, placed);
  checkCpuModel(definition);
  const restore = options.restore === undefined ? undefined : savedFor(definition, options.restore);
  const firmware = firmwareFor(definition, placed);
  const images = openImages(definition.boot, imagesFrom(options.files));
  try {
    images.plan({ memory: definition.memory, low: lowMemoryOf(definition.memory) });
    const machine = createMachine(definition, options);
    try {
      return await finish(definition, options, { placed, firmware, images, machine, restore });
    } catch (error) {
      await machine.destroy();
      throw error;
    }
  } catch (error) {
    images.close();
    throw error;
  }
}

interface Prepared {
  readonly placed: readonly PlacedDevice[];
  readonly firmware: FirmwareTables;
  readonly images: BootImages;
  readonly machine: Machine;
  readonly restore: { readonly folder: string; readonly saved: SavedMachine } | undefined;
}

async function finish(
  definition: VmDefinition,
  { openSerial, onReset, files }: BuildOptions,
  { placed, firmware, images, machine, restore }: Prepared,
): Promise<BuiltVm> {
  const open: { close(): void }[] = [];
  const keep = <T extends { close(): void }>(one: T): T => {
    open.push(one);
    return one;
  };
  try {
    const disks = keep(await OpenDisks.open(placed, files));
    const sockets = keep(await HostSockets.open(placed));
    const networks = keep(await Networks.open(definition, machine.net, tell));
    const serial = await openSerial(files);
    const parts = { definition, placed, machine, serial, disks, files, sockets, networks };
    const vm = new VirtualMachine({
      definition,
      machine,
      images,
      firmware,
      onReset,
      restore,
      assemble: (requests) => assemble({ ...parts, requests }),
    });
    return { vm, serial, networks };
  } catch (error) {
    for (const one of open) one.close();
    throw error;
  }
}

/** A serial port or one of the LPC bus's small devices without the bridge that they sit behind. */
export function checkSerial(definition: VmDefinition, placed: readonly PlacedDevice[]): void {
  if (lpcSlotOf(placed) !== undefined) return;
  const { com1, com2 } = definition.serial;
  const wanted = [
    com1.backend !== "none" && "COM1",
    com2.backend !== "none" && "COM2",
    definition.debugexit && "debugexit",
    definition.testdev && "testdev",
  ].find((name) => name !== false);
  if (wanted !== undefined) throw new VmError("SERIAL_NEEDS_LPC", [wanted]);
}

/** What can be known before there is a machine; `auto` decides when it makes one. */
export function checkCpuModel(definition: VmDefinition): void {
  const why = cpuModelFault(definition);
  if (why !== undefined) throw new VmError("CPU_MODEL_UNUSABLE", [definition.cpuModel, why]);
}

export function firmwareFor(
  definition: VmDefinition,
  placed: readonly PlacedDevice[],
): FirmwareTables {
  const config = {
    cpus: definition.cpus,
    memory: definition.memory,
    uuid: definition.uuid,
    pciMemory64: pciMem64For(definition.memory),
    lpcSlot: lpcSlotOf(placed),
    ...routing,
  };
  return firmwareTables(config, definition.firmware);
}

function createMachine(definition: VmDefinition, options: BuildOptions): Machine {
  const { firmware } = definition;
  try {
    return options.createMachine({
      cpus: definition.cpus,
      memory: definition.memory,
      accelerator: definition.accelerator,
      cpuModel: definition.cpuModel,
      x2apic: firmware.x2apic,
      strictIo: firmware.strictIo,
      ignoreUnknownMsrs: firmware.ignoreUnknownMsrs,
      rtcUtc: firmware.rtc === "utc",
    });
  } catch (error) {
    throw machineError(error, definition);
  }
}

/** What the machine refuses by a code of its own is the definition's to change. */
function machineError(error: unknown, { accelerator, cpuModel }: VmDefinition): VmError {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  const why = reasonOf(error);
  const cause = { cause: error };
  if (code === "ACCELERATOR_UNUSABLE") return new VmError(code, [accelerator, why], cause);
  if (code === "CPU_MODEL_UNUSABLE") return new VmError(code, [cpuModel, why], cause);
  return new VmError("MACHINE_FAILED", [why], cause);
}

/** What a saved state fixes: memory that was seen, CPUs that run, devices that guests hold. */
function savedFor(definition: VmDefinition, folder: string): NonNullable<Prepared["restore"]> {
  const saved = readState(folder);
  const same = (what: string, was: unknown, is: unknown): void => {
    const [a, b] = [JSON.stringify(was), JSON.stringify(is)];
    if (a !== b) throw new VmError("STATE_MISMATCH", [what, a, b]);
  };
  same("memory", saved.definition.memory, definition.memory);
  same("cpus", saved.definition.cpus, definition.cpus);
  same("cpuModel", saved.definition.cpuModel, definition.cpuModel);
  same("devices", hardwareOf(saved.definition), hardwareOf(definition));
  same("virtioMsix", saved.definition.virtioMsix, definition.virtioMsix);
  same("debugexit", saved.definition.debugexit, definition.debugexit);
  same("testdev", saved.definition.testdev, definition.testdev);
  same("firmware", saved.definition.firmware, definition.firmware);
  return { folder, saved };
}

/** What stands at the other end of a cable, or lies in a drive, is no part of the machine. */
const hardwareOf = ({ devices }: VmDefinition): unknown =>
  devices.map((device) => {
    if (device.type === "uart") return { ...device, serial: undefined };
    if (device.type === "virtio-net") return { ...device, backend: undefined, link: undefined };
    return device.type === "virtio-sock" ? { ...device, socket: undefined } : withoutMedia(device);
  });
