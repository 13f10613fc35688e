// From a definition's virtio devices to devices on the bus.
import type { VmDefinition } from "../api-schema/definition.js";
import type { BlockBackend } from "../devices/block/backend.js";
import type { Device } from "../devices/device.js";
import type { PciBus } from "../devices/pci/bus.js";
import { NoneBackend } from "../devices/serial/backend.js";
import type { VirtioDevice } from "../devices/virtio/device.js";
import { VirtioPci } from "../devices/virtio/pci.js";
import { serialOf, virtioBlk } from "../devices/virtio-blk/model.js";
import { virtioConsole } from "../devices/virtio-console/model.js";
import { virtioNet } from "../devices/virtio-net/model.js";
import { virtioRnd } from "../devices/virtio-rnd/model.js";
import { virtioVsock } from "../devices/virtio-vsock/model.js";
import type { Machine } from "../native/types.js";
import type { OpenDisks } from "./disks.js";
import type { HostSockets } from "./host-sockets.js";
import type { GuestRequests } from "./machine.js";
import type { Networks } from "./networks.js";
import type { SerialPorts } from "./process/serial.js";
import type { PlacedDevice } from "./slots.js";

export interface VirtioParts {
  readonly definition: Pick<VmDefinition, "virtioMsix">;
  readonly machine: Machine;
  readonly pci: PciBus;
  readonly disks: OpenDisks;
  readonly networks: Networks;
  readonly sockets: HostSockets;
  readonly serial: Pick<SerialPorts, "pci">;
  readonly requests: Pick<GuestRequests, "diskFull">;
  log(text: string): void;
}

/** undefined where it is no virtio device. */
export function virtioDevice(placed: PlacedDevice, parts: VirtioParts): Device | undefined {
  switch (placed.type) {
    case "virtio-blk":
      return onBus(placed, parts, virtioBlk, {
        backend: blockBackend(placed.slot, nameOf(placed), parts),
        serial: placed.serial ?? serialOf(placed.path),
        queues: placed.queues ?? 1,
      });
    case "virtio-rnd":
      return onBus(placed, parts, virtioRnd, { rate: placed.rate });
    case "virtio-console":
      return onBus(placed, parts, virtioConsole, {
        backend: parts.serial.pci.get(placed.slot) ?? new NoneBackend(),
      });
    case "virtio-net":
      return onBus(placed, parts, virtioNet, {
        ...parts.networks.take(placed.slot),
        mtu: placed.mtu,
        link: placed.link ?? true,
        made: (card) => parts.networks.made(placed.slot, card),
      });
    case "virtio-sock":
      return onBus(placed, parts, virtioVsock, {
        cid: placed.cid,
        host: parts.sockets.take(placed.slot),
      });
    default:
      return undefined;
  }
}

const nameOf = ({ type, address }: PlacedDevice): string =>
  `${type}-${address.bus}:${address.slot}:${address.function}`;

function onBus<Options>(
  placed: PlacedDevice,
  { definition, machine, pci, log }: VirtioParts,
  device: VirtioDevice<Options>,
  options: Options,
): Device {
  const { bus, slot, function: fn } = placed.address;
  return new VirtioPci(machine, pci, device, options, {
    name: nameOf(placed),
    address: { bus, slot, fn },
    msix: definition.virtioMsix,
    log,
  });
}

function blockBackend(slot: string, name: string, parts: VirtioParts): BlockBackend {
  const { machine, disks, requests, log } = parts;
  return disks.take(slot).backend({
    machine,
    onStall: (stalled) => {
      log(`${name}: ${stalled ? "the host has no room: writes wait" : "writes go on"}`);
      requests.diskFull(name, stalled);
    },
    log: (text) => log(`${name}: ${text}`),
  });
}
