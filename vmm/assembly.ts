// The devices of one machine, in one explicit list: its order is the order of reset, save and
// restore, and for PCI functions the order in which BARs are handed out, which guests remember.
import type { VmDefinition } from "../api-schema/definition.js";
import { AcpiPmDevice } from "../devices/acpi-pm/adapter.js";
import { DebugExit } from "../devices/debugexit/model.js";
import { DeviceSet } from "../devices/device.js";
import { DummyDevice } from "../devices/dummy/model.js";
import { hostBridge } from "../devices/hostbridge/model.js";
import { I8042Device } from "../devices/i8042/adapter.js";
import { limitedLog } from "../devices/log.js";
import { lpcBridge } from "../devices/lpc/model.js";
import { IO_WINDOW } from "../devices/pci/address-map.js";
import { PciBus } from "../devices/pci/bus.js";
import { PciFunction } from "../devices/pci/function.js";
import { gsiOf, type IntxPin, type IntxRouter, pirqOf } from "../devices/pci/routing.js";
import { PciUart } from "../devices/pci-uart/model.js";
import { PostPorts } from "../devices/post/model.js";
import { ResetControl } from "../devices/reset/model.js";
import { NoneBackend } from "../devices/serial/backend.js";
import { TestDevice } from "../devices/testdev/model.js";
import { IO_BARS_FROM } from "../devices/testdev/registers.js";
import { COM1, COM2, Uart } from "../devices/uart/adapter.js";
import type { Machine } from "../native/types.js";
import { ahciDevice, changeMedium, type Drives, drivesIn } from "./ahci.js";
import type { OpenDisks } from "./disks.js";
import type { FirmwareConfig } from "./firmware/index.js";
import type { HostFiles } from "./host-files.js";
import type { HostSockets } from "./host-sockets.js";
import type { Assembled, GuestRequests } from "./machine.js";
import type { Networks } from "./networks.js";
import type { SerialPorts } from "./process/serial.js";
import { lpcSlotOf, type PlacedDevice } from "./slots.js";
import { virtioDevice } from "./virtio.js";

const pinOf = (pin: number): IntxPin => ((pin & 3) + 1) as IntxPin;

/** The machine's INTx wiring in the firmware tables' terms: pins from 0 for INTA. */
export const routing: Pick<FirmwareConfig, "gsiOf" | "pirqOf"> = {
  gsiOf: (slot, pin) => gsiOf(slot, pinOf(pin)),
  pirqOf: (slot, pin) => pirqOf(slot, pinOf(pin)),
};

export interface AssemblyInput {
  readonly definition: VmDefinition;
  readonly placed: readonly PlacedDevice[];
  readonly machine: Machine;
  readonly serial: Omit<SerialPorts, "console">;
  readonly disks: OpenDisks;
  readonly files: HostFiles;
  readonly networks: Networks;
  readonly sockets: HostSockets;
  readonly requests: GuestRequests;
}

export function assemble(input: AssemblyInput): Assembled {
  const { definition, placed, machine, requests } = input;
  const devices = new DeviceSet();
  const resetRequested = (): void => requests.reset();
  const resetControl = devices.add(new ResetControl({ resetRequested }));
  const ioFrom = definition.testdev ? IO_BARS_FROM : IO_WINDOW.base;
  const pci = devices.add(new PciBus(machine, { resetControl, ioFrom }));
  const drives: Drives = new Map();
  const virtio = { ...input, pci, drives, log: limitedLog(tell) };
  for (const [index, one] of placed.entries())
    devices.add(
      virtioDevice(one, virtio) ?? ahciDevice(one, virtio) ?? plainDevice(one, index, pci, input),
    );
  const pm = devices.add(new AcpiPmDevice(machine, { powerOff: () => requests.powerOff() }));
  const setA20 = (open: boolean): void => machine.setA20(open);
  devices.add(new I8042Device(machine, { setA20, resetRequested }));
  devices.add(new PostPorts(machine));
  if (lpcSlotOf(placed) !== undefined) addLpcDevices(devices, input);
  return {
    devices,
    pressPowerButton: () => pm.press(),
    counts: () => ({ ...input.disks.counts(), ...networkCounts(input.networks) }),
    drives: () => drivesIn(drives),
    changeMedium: (drive, change, given) =>
      changeMedium({ ...virtio, files: given ?? input.files }, drive, change),
    get acpiEnabled() {
      return pm.acpiEnabled;
    },
  };
}

const networkCounts = (networks: Networks): Record<string, Readonly<Record<string, number>>> =>
  Object.fromEntries(networks.views().map(({ slot, counters }) => [`network-${slot}`, counters]));

const tell = (text: string): void => void process.stderr.write(`${text}\n`);

type PlainDevice = PciFunction | PciUart | DummyDevice;

/** On the bus, as virtio devices are when they have been made. */
function plainDevice(
  placed: PlacedDevice,
  index: number,
  pci: PciBus,
  input: AssemblyInput,
): PlainDevice {
  const { bus, slot, function: fn } = placed.address;
  const device = pciDevice(placed, index, pci.router, input);
  pci.add({ bus, slot, fn }, device instanceof PciFunction ? device : device.pciFunction);
  return device;
}

function pciDevice(
  device: PlacedDevice,
  index: number,
  router: IntxRouter,
  { machine, serial }: AssemblyInput,
): PlainDevice {
  switch (device.type) {
    case "hostbridge":
    case "amd_hostbridge":
      return hostBridge(`hostbridge${index}`, device.type);
    case "lpc":
      return lpcBridge(router);
    case "dummy":
      return new DummyDevice(`dummy${index}`);
    case "uart": {
      const backend = serial.pci.get(device.slot) ?? new NoneBackend();
      return new PciUart(machine, { name: `uart${index}`, backend });
    }
    default:
      throw new Error(`no such PCI device: ${device.type}`);
  }
}

function addLpcDevices(devices: DeviceSet, input: AssemblyInput): void {
  const { definition, machine, serial, requests } = input;
  devices.add(new Uart(machine, { ...COM1, backend: serial.com1 }));
  devices.add(new Uart(machine, { ...COM2, backend: serial.com2 }));
  if (definition.debugexit) {
    devices.add(new DebugExit(machine, { exit: (status) => requests.debugExit(status) }));
  }
  if (definition.testdev) devices.add(new TestDevice(machine));
}
