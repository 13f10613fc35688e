// What may be where on the PCI bus.
import type { PciDevice } from "../api-schema/definition.js";
import { VmError } from "../api-schema/errors.js";
import { keyOf, type PciAddress, parseSlot } from "../api-schema/slots.js";

export type PlacedDevice = PciDevice & { readonly address: PciAddress };

/** In the order of their addresses, which is the order in which a guest finds them. */
export function placeDevices(devices: readonly PciDevice[]): readonly PlacedDevice[] {
  const placed = devices.map((device) => ({ ...device, address: parseSlot(device.slot) }));
  const keys = placed.map(({ address }) => keyOf(address));
  const twice = keys.find((key, index) => keys.indexOf(key) !== index);
  if (twice !== undefined) throw new VmError("DEVICE_SLOT_TAKEN", [nameOf(twice)]);
  const lpcs = placed.filter(({ type }) => type === "lpc");
  if (lpcs.length > 1) throw new VmError("DEVICE_ONLY_ONE", ["lpc"]);
  for (const { type, address } of placed) {
    if (address.bus !== 0) throw new VmError("DEVICE_PLACE", [type, "on bus 0"]);
  }
  return placed.sort((a, b) => keyOf(a.address) - keyOf(b.address));
}

const nameOf = (key: number): string => `${key >> 8}:${(key >> 3) & 31}:${key & 7}`;

export const lpcSlotOf = (placed: readonly PlacedDevice[]): number | undefined =>
  placed.find(({ type }) => type === "lpc")?.address.slot;
