// Where in a definition images are: a device of its own, or a port of an AHCI controller. Named as
// drives are: the slot, then -PORT where that is not 0.
import { canonicalDrive } from "./media.js";

/** A device or a port, as far as its image goes. */
export interface DiskPlace {
  readonly type: string;
  readonly path?: string | undefined;
  /** One that the daemon keeps. */
  readonly image?: string | undefined;
  readonly readOnly?: boolean | undefined;
}

/** Of a definition, or of what a client would like to be one. */
interface Device extends DiskPlace {
  readonly slot?: string | undefined;
  readonly ports?: readonly DiskPlace[];
}

const DISKS: readonly string[] = ["virtio-blk", "ahci-hd", "ahci-cd", "hd", "cd"];
const DRIVES: readonly string[] = ["ahci-cd", "cd"];

const nameOf = (slot: string, port: number): string => (port === 0 ? slot : `${slot}-${port}`);

/** The devices with each place as `change` gives it back, which is all of it. */
export const mapDisks = <D extends Device>(
  devices: readonly D[],
  change: (place: DiskPlace, name: string) => DiskPlace,
): D[] =>
  devices.map((device) => {
    const { slot = "", ports } = device;
    if (ports !== undefined)
      return { ...device, ports: ports.map((port, index) => change(port, nameOf(slot, index))) };
    return DISKS.includes(device.type) ? (change(device, slot) as D) : device;
  });

export interface NamedDisk {
  readonly name: string;
  readonly place: DiskPlace;
}

/** Those that have an image. */
export function disksOf(devices: readonly Device[]): NamedDisk[] {
  const found: NamedDisk[] = [];
  mapDisks(devices, (place, name) => {
    if (place.path !== undefined || place.image !== undefined) found.push({ name, place });
    return place;
  });
  return found;
}

/** A disc in a drive is only read, and may be many VMs'. */
export const isWritten = ({ type, readOnly }: DiskPlace): boolean =>
  !DRIVES.includes(type) && readOnly !== true;

/** What a client says of one disk, however it wrote the name. */
export const saidOf = <T>(said: Readonly<Record<string, T>>, name: string): T | undefined =>
  Object.entries(said).find(([one]) => canonicalDrive(one) === canonicalDrive(name))?.[1];
