// From a definition's AHCI controllers to devices on the bus.
import { type AhciPort, ahciPorts, isAhci, mediumSource } from "../api-schema/ahci.js";
import { VmError } from "../api-schema/errors.js";
import type { Drive, MediumChange } from "../api-schema/media.js";
import type { DeviceLink, SataDevice } from "../devices/ahci/device.js";
import { AtaDisk } from "../devices/ahci/disk.js";
import { CdDrive } from "../devices/ahci/drive.js";
import { Ahci } from "../devices/ahci/hba.js";
import type { BlockBackend } from "../devices/block/backend.js";
import type { PciBus } from "../devices/pci/bus.js";
import { serialOf } from "../devices/virtio-blk/model.js";
import type { Machine } from "../native/types.js";
import { diskKey, type OpenDisks, openDisk } from "./disks.js";
import type { HostFiles } from "./host-files.js";
import type { GuestRequests } from "./machine.js";
import type { PlacedDevice } from "./slots.js";

/** The original's. */
const DISK_MODEL = "BHYVE SATA DISK";
const DRIVE_MODEL = "BHYVE SATA DVD ROM";

/** The machine's CD drives, by diskKey(). */
export type Drives = Map<string, CdDrive>;

export interface AhciParts {
  readonly drives: Drives;
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
  return (link) => {
    const drive = new CdDrive(options, link);
    parts.drives.set(key, drive);
    return drive;
  };
}

/** Another disc, or none, while the machine is there. Throws VmError; nothing has changed then. */
export async function changeMedium(
  parts: Pick<AhciParts, "drives" | "machine" | "log"> & { readonly files: HostFiles },
  key: string,
  { force = false, ...medium }: MediumChange,
): Promise<void> {
  const { drives, machine, files, log } = parts;
  const drive = drives.get(key);
  if (drive === undefined) throw new VmError("DRIVE_NOT_FOUND", [key]);
  const source = mediumSource(medium);
  const opened = source && (await openDisk(source, files));
  const told = { machine, onStall: () => {}, log };
  const next = source && opened && { label: source.path, open: () => opened.backend(told) };
  if (drive.exchange(next, force)) return;
  opened?.close();
  throw new VmError("MEDIUM_LOCKED", [key]);
}

export const drivesIn = (drives: Drives): Drive[] =>
  [...drives].map(([device, { tray }]) => ({
    device,
    ...(tray.label !== undefined && { path: tray.label }),
    tray: tray.isOpen ? "open" : "closed",
    locked: tray.locked,
  }));

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
