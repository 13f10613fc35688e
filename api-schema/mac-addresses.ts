// The addresses of a definition's network cards, given or derived: the daemon compares them over all
// its VMs, the VM process gives them to the guest.
import { createHash } from "node:crypto";
import type { PciDevice, VmDefinition } from "./definition.js";
import { VmError } from "./errors.js";

/** IEEE 802, "Local MAC addresses": bit 0 of the first byte is multicast, bit 1 local. */
const MULTICAST = 0x01;
const LOCAL = 0x02;
const MAC_BYTES = 6;

/** One text for a slot, however it was written: cards keep their addresses. */
export function slotKey(slot: string): string {
  const numbers = slot.split(":").map(Number);
  const [bus, number, fn] = numbers.length === 3 ? numbers : [0, numbers[0], numbers[1] ?? 0];
  return `${bus}:${number}:${fn}`;
}

/**
 * The same for the same VM and slot, and 46 bits of hash apart for any others. (The original hashes a
 * constant name into 24 bits: all VMs' cards of one slot got one address.)
 */
export function derivedMac(uuid: string, slot: string): string {
  const hash = createHash("sha256")
    .update(`${uuid.toLowerCase()} ${slotKey(slot)}`)
    .digest();
  hash[0] = ((hash[0] ?? 0) & ~MULTICAST) | LOCAL;
  return hash.toString("hex", 0, MAC_BYTES).replace(/..(?!$)/g, "$&:");
}

export interface CardAddress {
  readonly slot: string;
  /** In lower case. */
  readonly mac: string;
  /** Where the card stands in `devices`. */
  readonly index: number;
}

type Cards = Pick<VmDefinition, "uuid" | "devices">;

/** Of definitions, which are never changed in place: a registry of a thousand is looked through. */
const known = new WeakMap<Cards, readonly CardAddress[]>();

export function cardAddresses(definition: Cards): readonly CardAddress[] {
  let cards = known.get(definition);
  if (cards === undefined) {
    cards = addressesIn(definition);
    known.set(definition, cards);
  }
  return cards;
}

const addressesIn = ({ uuid, devices }: Cards): CardAddress[] =>
  devices.flatMap((device: PciDevice, index) => {
    if (device.type !== "virtio-net") return [];
    const { slot, mac } = device;
    return [{ slot, mac: mac?.toLowerCase() ?? derivedMac(uuid, slot), index }];
  });

const taken = ({ mac, index }: CardAddress, by: string): VmError =>
  new VmError("NETWORK_MAC_TAKEN", [mac, `devices[${index}]`, by]);

/** The first address that two cards of one VM have. */
export function macTakenWithin(definition: Cards): VmError | undefined {
  const cards = cardAddresses(definition);
  for (const card of cards) {
    const other = cards.find(({ mac, index }) => mac === card.mac && index < card.index);
    if (other !== undefined) return taken(card, `the card in slot ${other.slot}`);
  }
  return undefined;
}

/** The first address that a card of another VM has. */
export function macTakenBy(definition: Cards, other: Cards & { readonly name: string }) {
  const theirs = cardAddresses(other);
  for (const card of cardAddresses(definition)) {
    const found = theirs.find(({ mac }) => mac === card.mac);
    if (found !== undefined)
      return taken(card, `the VM ${other.name} (its card in slot ${found.slot})`);
  }
  return undefined;
}
