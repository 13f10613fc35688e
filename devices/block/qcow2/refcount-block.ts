// qcow2.txt, "Refcount blocks": counts of 1 to 64 bits; those of less than 8 are in bytes from the
// lowest bit on, wider ones big-endian.
import { u64, viewOf } from "./header.js";

/** What no number can be is Infinity. */
export function getRefcount(block: Uint8Array, index: number, order: number): number {
  const view = viewOf(block);
  switch (order) {
    case 3:
      return view.getUint8(index);
    case 4:
      return view.getUint16(2 * index);
    case 5:
      return view.getUint32(4 * index);
    case 6: {
      const count = u64(view, 8 * index);
      return Number.isNaN(count) ? Number.POSITIVE_INFINITY : count;
    }
    default: {
      const bits = 1 << order;
      const bit = index * bits;
      return (view.getUint8(bit >> 3) >> (bit & 7)) & ((1 << bits) - 1);
    }
  }
}

export function setRefcount(block: Uint8Array, index: number, order: number, count: number): void {
  const view = viewOf(block);
  switch (order) {
    case 3:
      view.setUint8(index, count);
      return;
    case 4:
      view.setUint16(2 * index, count);
      return;
    case 5:
      view.setUint32(4 * index, count);
      return;
    case 6:
      view.setUint32(8 * index, 0);
      view.setUint32(8 * index + 4, count);
      return;
    default: {
      const bits = 1 << order;
      const bit = index * bits;
      const mask = ((1 << bits) - 1) << (bit & 7);
      const other = view.getUint8(bit >> 3) & ~mask;
      view.setUint8(bit >> 3, other | ((count << (bit & 7)) & mask));
      return;
    }
  }
}

export const mostReferences = (order: number): number => 2 ** Math.min(2 ** order, 16) - 1;
