// The block that vCPU threads share with JavaScript, as native/core/bus/wire.h lays it out. All
// numbers are indices into a Uint32Array over it.

export const ISSUED = 0;
export const SERVED = 16;

const CONTROL_WORDS = 48;
export const RING_ENTRIES = 1024;
const VCPU_WORDS = 48 + 4 * RING_ENTRIES;

export interface VcpuWords {
  readonly head: number;
  readonly tail: number;
  readonly blocked: number;
  /** state, ticket, header, offset, value */
  readonly mail: number;
  /** Entries of four words: ticket, header, offset, value. */
  readonly ring: number;
}

export const vcpuWords = (index: number): VcpuWords => {
  const base = CONTROL_WORDS + index * VCPU_WORDS;
  return { head: base, tail: base + 16, blocked: base + 17, mail: base + 32, ring: base + 48 };
};

export const vcpuCount = (words: number): number => (words - CONTROL_WORDS) / VCPU_WORDS;

export const MAIL_ASKED = 1;
export const WISH_ROOM = 1;
export const WISH_EMPTY = 2;

export const KIND_READ = 0;
export const KIND_WRITE = 1;
export const NO_SLOT = 255;

export const rangeOf = (header: number): number => header & 0xffff;
export const sizeOf = (header: number): number => (header >>> 16) & 15;
export const kindOf = (header: number): number => (header >>> 20) & 15;
export const slotOf = (header: number): number => header >>> 24;

/** In front of a range's published bytes: what waits to be served, and the doorbells' slots. */
export const RANGE_PENDING = 0;
export const doorbellTicket = (slot: number): number => 16 + 2 * slot + 1;
export const SHADOW_OFFSET = 1024;
