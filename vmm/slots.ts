// PCI addresses as bhyve's -s writes them, and what may be where.
import type { PciDevice } from "../api-schema/definition.js";
import { VmError } from "../api-schema/errors.js";

export interface PciAddress {
  readonly bus: number;
  readonly slot: number;
  readonly function: number;
}

const MOST = { bus: 255, slot: 31, function: 7 } as const;

/** One number is a slot, two are slot and function, three bus, slot and function. */
function parseSlot(text: string): PciAddress {
  const numbers = text.split(":").map(Number);
  const [bus, slot, fn] = numbers.length === 3 ? numbers : [0, numbers[0], numbers[1] ?? 0];
  const address = { bus: bus ?? Number.NaN, slot: slot ?? Number.NaN, function: fn ?? Number.NaN };
  for (const [part, most] of Object.entries(MOST)) {
    const value = address[part as keyof PciAddress];
    if (!(Number.isInteger(value) && value >= 0 && value <= most)) {
      throw new VmError("DEVICE_SLOT_INVALID", [text, `the ${part} is 0 to ${most}`]);
    }
  }
  return address;
}

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

const keyOf = ({ bus, slot, function: fn }: PciAddress): number => (bus << 8) | (slot << 3) | fn;
const nameOf = (key: number): string => `${key >> 8}:${(key >> 3) & 31}:${key & 7}`;

export const lpcSlotOf = (placed: readonly PlacedDevice[]): number | undefined =>
  placed.find(({ type }) => type === "lpc")?.address.slot;
