// A definition as the process of its VM gets it: with what its names stand for on this host today.
import type { PciDevice, VmDefinition } from "../../api-schema/index.js";
import type { Networks } from "../networks/networks.js";

/** Throws STORED_NETWORK_NOT_FOUND. */
export const launchDefinition = (definition: VmDefinition, networks: Networks): VmDefinition => ({
  ...definition,
  devices: definition.devices.map((device) => networks.plugged(device)),
});

/** The way back, for a VM whose row is lost while its process runs. */
export const storedDefinition = (launched: VmDefinition): VmDefinition => ({
  ...launched,
  devices: launched.devices.map(unplugged),
});

function unplugged(device: PciDevice): PciDevice {
  if (device.type !== "virtio-net" || device.network === undefined) return device;
  const { backend: _, ...card } = device;
  return card;
}
