// A definition as the process of its VM gets it: with what its names stand for on this host today, and
// the drive with the disc for the guest's cloud-init.
import type { PciDevice, VmDefinition } from "../../api-schema/index.js";
import type { Networks } from "../networks/networks.js";

/** Throws STORED_NETWORK_NOT_FOUND. */
export const launchDefinition = (definition: VmDefinition, networks: Networks): VmDefinition => ({
  ...definition,
  devices: [
    ...definition.devices.map((device) => networks.plugged(device)),
    ...seedDrive(definition),
  ],
});

/** Of a definition that is stored, a slot has been assigned. */
const seedDrive = ({ cloudInit }: VmDefinition): PciDevice[] =>
  cloudInit?.slot === undefined ? [] : [{ slot: cloudInit.slot, type: "ahci-cd" }];

/** Inserts the disc. What the guest is told by it, its process need not know otherwise. */
export const withSeed = (launched: VmDefinition, path: string): VmDefinition => ({
  ...launched,
  devices: launched.devices.map((device) =>
    isSeedDrive(launched, device) ? { ...device, path } : device,
  ),
});

const isSeedDrive = ({ cloudInit }: VmDefinition, { slot, type }: PciDevice): boolean =>
  type === "ahci-cd" && slot === cloudInit?.slot;

/** The way back, for a VM whose row is lost while its process runs. */
export const storedDefinition = (launched: VmDefinition): VmDefinition => ({
  ...launched,
  devices: launched.devices.filter((device) => !isSeedDrive(launched, device)).map(unplugged),
});

function unplugged(device: PciDevice): PciDevice {
  if (device.type !== "virtio-net" || device.network === undefined) return device;
  const { backend: _, ...card } = device;
  return card;
}
