// From a definition's AHCI controllers to devices on the bus.
import { type AhciPort, ahciPorts, isAhci } from "../api-schema/ahci.js";
import type { DeviceLink, SataDevice } from "../devices/ahci/device.js";
import { AtaDisk } from "../devices/ahci/disk.js";
import { CdDrive } from "../devices/ahci/drive.js";
import { Ahci } from "../devices/ahci/hba.js";
import type { BlockBackend } from "../devices/block/backend.js";
import type { PciBus } from "../devices/pci/bus.js";
import { serialOf } from "../devices/virtio-blk/model.js";
import type { Machine } from "../native/types.js";
import { diskKey, type OpenDisks } from "./disks.js";
import type { GuestRequests } from "./machine.js";
import type { PlacedDevice } from "./slots.js";

/** The original's. */
const DISK_MODEL = "BHYVE SATA DISK";
const DRIVE_MODEL = "BHYVE SATA DVD ROM";

export interface AhciParts {
  readonly machine: Machine;
  readonly pci: PciBus;
  readonly disks: OpenDisks;
  readonly requests: Pick<GuestRequests, "diskFull">;
  log(text: string): void;
}

/** undefined where it is no AHCI controller. */
export function ahciDevice(placed: PlacedDevice, parts: AhciParts): Ahci | undefined {
  if (!isAhci(placed)) return undefined;
  const { bus, slot, function: fn } = placed.address;
  const name = `${placed.type}-${bus}:${slot}:${fn}`;
  return new Ahci(parts.machine, parts.pci, {
    name,
    address: { bus, slot, fn },
    devices: ahciPorts(placed).map((port, index) => {
      const onPort = { key: diskKey(placed.slot, index), name: `${name}-${index}` };
      return maker(port, onPort, parts);
    }),
    log: parts.log,
  });
}

interface OnPort {
  readonly key: string;
  readonly name: string;
}

type Make = (link: DeviceLink) => SataDevice;

function maker(port: AhciPort, { key, name }: OnPort, parts: AhciParts): Make {
  if (port.type === "hd") {
    const options = {
      backend: backend(key, name, parts),
      serial: port.serial ?? serialOf(port.path),
      model: DISK_MODEL,
    };
    return (link) => new AtaDisk(options, link);
  }
  const medium =
    port.path === undefined ? undefined : { label: port.path, backend: backend(key, name, parts) };
  const options = { medium, serial: port.serial ?? serialOf(name), model: DRIVE_MODEL };
  return (link) => new CdDrive(options, link);
}

function backend(key: string, name: string, parts: AhciParts): BlockBackend {
  const { machine, disks, requests, log } = parts;
  return disks.take(key).backend({
    machine,
    onStall: (stalled) => {
      log(`${name}: ${stalled ? "the host has no room: writes wait" : "writes go on"}`);
      requests.diskFull(name, stalled);
    },
    log: (text) => log(`${name}: ${text}`),
  });
}
