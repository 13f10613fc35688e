// Small helpers that every register model needs.

/** What a read gives where nothing answers. */
export const allOnes = (size: number): number => (size >= 4 ? 0xffffffff : 2 ** (8 * size) - 1);

/** A device of byte-wide registers under wider accesses: one byte after the other, low one first. */
export function readBytes(size: number, byte: (lane: number) => number): number {
  let value = 0;
  for (let lane = 0; lane < size; lane++) value += byte(lane) * 2 ** (8 * lane);
  return value;
}

export function writeBytes(
  size: number,
  value: number,
  byte: (lane: number, value: number) => void,
): void {
  for (let lane = 0; lane < size; lane++) byte(lane, (value >>> (8 * lane)) & 0xff);
}
