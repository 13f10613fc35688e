// PCI addresses as bhyve's -s writes them, and the choice of those that a client leaves open.
import { VmError } from "./errors.js";

export interface PciAddress {
  readonly bus: number;
  readonly slot: number;
  readonly function: number;
}

const MOST = { bus: 255, slot: 31, function: 7 } as const;

/** One number is a slot, two are slot and function, three bus, slot and function. */
export function parseSlot(text: string): PciAddress {
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

/** In the order in which a guest finds them. */
export const keyOf = ({ bus, slot, function: fn }: PciAddress): number =>
  (bus << 8) | (slot << 3) | fn;

/** Where guests and the firmware tables look for them. */
const HOMES: Readonly<Partial<Record<string, number>>> = {
  hostbridge: 0,
  amd_hostbridge: 0,
  lpc: 31,
};
const LAST_SLOT = 31;

/**
 * Every device with its slot: those without get one to themselves, bridges their own place, the
 * others the lowest that is free, in the order of the list. Once given, a slot is kept: it is how a
 * guest knows the device. Throws VmError DEVICE_NO_SLOT.
 */
export function assignSlots<T extends { readonly type: string; readonly slot?: string }>(
  devices: readonly T[],
): (T & { readonly slot: string })[] {
  const taken = new Set<number>();
  for (const { slot } of devices) {
    const address = slot === undefined ? undefined : parseSlot(slot);
    if (address?.bus === 0) taken.add(address.slot);
  }
  const homes = devices.flatMap(({ type, slot }) =>
    slot === undefined ? (HOMES[type] ?? []) : [],
  );
  const kept = new Set([0, LAST_SLOT, ...homes]);
  const free = (type: string): number => {
    const home = HOMES[type];
    if (home !== undefined && !taken.has(home)) return home;
    for (let slot = 0; slot <= LAST_SLOT; slot++)
      if (!taken.has(slot) && !kept.has(slot)) return slot;
    throw new VmError("DEVICE_NO_SLOT", [type]);
  };
  return devices.map((device) => {
    if (device.slot !== undefined) return { ...device, slot: device.slot };
    const slot = free(device.type);
    taken.add(slot);
    return { ...device, slot: `${slot}:0` };
  });
}
