// MAC addresses as text and bytes.

export const MAC_BYTES = 6;

/** Throws nothing: the definition's schema has checked the text. */
export const parseMac = (text: string): Uint8Array =>
  Uint8Array.from(text.split(":"), (byte) => Number.parseInt(byte, 16));

export const printMac = (mac: Uint8Array): string =>
  [...mac].map((byte) => byte.toString(16).padStart(2, "0")).join(":");
