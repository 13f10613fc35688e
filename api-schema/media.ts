// The discs in a VM's CD drives: which they are, and their change while it runs.
import { type Static, Type } from "@sinclair/typebox";
import { ahciPorts, type CdMedium, cdMedium, isAhci } from "./ahci.js";
import type { PciDevice } from "./definition.js";
import { VmError } from "./errors.js";
import { closed, literals } from "./shape.js";
import { keyOf, parseSlot } from "./slots.js";

/** `SLOT[:FUNCTION]` of the controller, then `-PORT` where that is not 0. */
export const DriveName = Type.String({
  pattern: "^[0-9]{1,3}(:[0-9]{1,3}){0,2}(-[0-9]{1,2})?$",
  maxLength: 14,
  description: "the drive's PCI slot, and -PORT where it is not on port 0",
});

/** Without a path the drive is emptied. */
export const MediumChange = closed(
  {
    ...cdMedium,
    /** Also while the guest has locked the drive. */
    force: Type.Optional(Type.Boolean()),
  },
  { $id: "MediumChange" },
);

export const Drive = closed({
  device: DriveName,
  /** What lies in it. */
  path: Type.Optional(Type.String()),
  /** Open where the guest or a client has ejected. */
  tray: literals(["open", "closed"]),
  /** The guest does not let go of the disc. */
  locked: Type.Boolean(),
});
export const DriveList = closed({ drives: Type.Array(Drive) }, { $id: "DriveList" });

export type MediumChange = Static<typeof MediumChange>;
export type Drive = Static<typeof Drive>;

/** The one way in which a drive is named: its whole slot, and its port. */
export function canonicalDrive(name: string): string {
  const [slot = "", port = "0"] = name.split("-");
  return `${keyOf(parseSlot(slot))}-${Number(port)}`;
}

interface Place {
  readonly device: PciDevice;
  readonly port: number;
  readonly name: string;
  readonly medium: CdMedium;
}

const drives = (devices: readonly PciDevice[]): Place[] =>
  devices.flatMap((device) => {
    if (!isAhci(device)) return [];
    return ahciPorts(device).flatMap((medium, port) => {
      const name = port === 0 ? device.slot : `${device.slot}-${port}`;
      return medium.type === "cd" ? [{ device, port, name, medium }] : [];
    });
  });

/** Throws VmError DRIVE_NOT_FOUND. */
export function findDrive(devices: readonly PciDevice[], name: string): Place {
  const found = drives(devices).find((one) => canonicalDrive(one.name) === canonicalDrive(name));
  if (found === undefined) throw new VmError("DRIVE_NOT_FOUND", [name]);
  return found;
}

/** Of a VM that is off: nothing is locked, and what has a disc is closed. */
export const drivesOf = (devices: readonly PciDevice[]): Drive[] =>
  drives(devices).map(({ name, medium: { path } }) => ({
    device: name,
    ...(path !== undefined && { path }),
    tray: "closed",
    locked: false,
  }));

/** Without what can be changed while a machine runs. */
export function withoutMedia(device: PciDevice): PciDevice {
  if (device.type === "ahci-cd") return { slot: device.slot, type: device.type };
  if (device.type !== "ahci") return device;
  return {
    ...device,
    ports: device.ports.map((port) => (port.type === "cd" ? { type: port.type } : port)),
  };
}

/** The devices with another disc, or none, in that drive. Throws VmError DRIVE_NOT_FOUND. */
export function withMedium(
  devices: readonly PciDevice[],
  name: string,
  { path, format, export: exported }: CdMedium,
): PciDevice[] {
  const place = findDrive(devices, name);
  const medium =
    path === undefined
      ? {}
      : { path, ...(format && { format }), ...(exported !== undefined && { export: exported }) };
  // What lies there is no longer the image that it was.
  const changed = <T extends CdMedium & { image?: string }>(drive: T) => {
    const { path: _, format: __, export: ___, image: ____, ...rest } = drive;
    return { ...rest, ...medium };
  };
  return devices.map((device): PciDevice => {
    if (device !== place.device) return device;
    if (device.type === "ahci-cd") return changed(device);
    if (device.type !== "ahci") return device;
    const ports = device.ports.map((port, index) =>
      index === place.port && port.type === "cd" ? changed(port) : port,
    );
    return { ...device, ports };
  });
}
