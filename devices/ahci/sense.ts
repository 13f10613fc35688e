// Why a packet command did not end well: SPC-4, "Sense data"; keys and additional codes from its
// tables and MMC-6, "Sense Keys and Additional Sense Codes".
import { int, record, type StateOf } from "../state.js";

export const senseState = record({ key: int(0, 15), code: int(0, 0xff), qualifier: int(0, 0xff) });
export type Sense = StateOf<typeof senseState>;

const sense = (key: number, code: number, qualifier = 0): Sense => ({ key, code, qualifier });

export const SENSE = {
  none: sense(0x0, 0x00),
  noMediumTrayClosed: sense(0x2, 0x3a, 0x01),
  noMediumTrayOpen: sense(0x2, 0x3a, 0x02),
  unreadable: sense(0x3, 0x11),
  badOpcode: sense(0x5, 0x20),
  outOfRange: sense(0x5, 0x21),
  badField: sense(0x5, 0x24),
  savingUnsupported: sense(0x5, 0x39),
  removalPrevented: sense(0x5, 0x53, 0x02),
  wasReset: sense(0x6, 0x29),
  mediumChanged: sense(0x6, 0x28),
} as const satisfies Record<string, Sense>;

/** "Fixed format sense data" */
export function senseData({ key, code, qualifier }: Sense): Uint8Array {
  const bytes = new Uint8Array(18);
  bytes.set([0x70, 0, key]);
  bytes[7] = bytes.length - 8;
  bytes.set([code, qualifier], 12);
  return bytes;
}
