// MAC addresses as text and bytes, and one for a card that was given none.
import { createHash } from "node:crypto";

export const MAC_BYTES = 6;

/** IEEE 802, "Local MAC addresses": bit 0 of the first byte is multicast, bit 1 local. */
const MULTICAST = 0x01;
const LOCAL = 0x02;

/** Throws nothing: the definition's schema has checked the text. */
export const parseMac = (text: string): Uint8Array =>
  Uint8Array.from(text.split(":"), (byte) => Number.parseInt(byte, 16));

export const printMac = (mac: Uint8Array): string =>
  [...mac].map((byte) => byte.toString(16).padStart(2, "0")).join(":");

/**
 * The same for the same VM and slot, and 46 bits of hash apart for any others. (The original hashes a
 * constant name into 24 bits: all VMs' cards of one slot got one address.)
 */
export function macOf(uuid: string, slot: string): Uint8Array {
  const mac = createHash("sha256").update(`${uuid.toLowerCase()} ${slot}`).digest();
  mac[0] = ((mac[0] ?? 0) & ~MULTICAST) | LOCAL;
  return Uint8Array.from(mac.subarray(0, MAC_BYTES));
}
