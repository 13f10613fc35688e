// Resource descriptors of _CRS and _PRS (ACPI 6.4 §6.4 "Resource Data Types for ACPI").
import { type Aml, buffer, join, littleEndian } from "./aml.js";

const END_TAG = Uint8Array.of(0x79, 0); // §6.4.2.9: a checksum of 0 counts as right

export const template = (...descriptors: readonly Aml[]): Aml =>
  buffer(join(...descriptors, END_TAG));

/** §6.4.2.5 I/O port descriptor, 16-bit decode, fixed. */
export const io = (base: number, length: number): Aml =>
  join(
    Uint8Array.of(0x47, 1),
    littleEndian(base, 2),
    littleEndian(base, 2),
    Uint8Array.of(1, length),
  );

/** §6.4.2.1 IRQ descriptor without flags: edge, active high, exclusive. */
export const irq = (...numbers: readonly number[]): Aml =>
  join(Uint8Array.of(0x22), littleEndian(irqMask(numbers), 2));

const LEVEL_LOW_SHARED = 0x18; // bit 0 edge, bit 3 active low, bit 4 shared
/** The same with flags: level, active low, shared. */
export const sharedIrq = (...numbers: readonly number[]): Aml =>
  join(Uint8Array.of(0x23), littleEndian(irqMask(numbers), 2), Uint8Array.of(LEVEL_LOW_SHARED));

const irqMask = (numbers: readonly number[]): number =>
  numbers.reduce((mask, number) => mask | (1 << number), 0);

/** §6.4.3.4 32-bit fixed memory range, read-write. */
export const memory32 = (base: number, length: number): Aml =>
  join(Uint8Array.of(0x86, 9, 0, 1), littleEndian(base, 4), littleEndian(length, 4));

// §6.4.3.5 Address space descriptors: windows that the device passes on (a producer).
const TYPE = { memory: 0, io: 1, bus: 2 } as const;
const FIXED = 0x0c; // minimum and maximum fixed, positive decode, producer
const FLAGS = { memory: 0x01, io: 0x03, bus: 0x00, prefetchable: 0x07 } as const;
const TAG = { 2: 0x88, 4: 0x87, 8: 0x8a } as const;

function window(
  width: 2 | 4 | 8,
  type: keyof typeof TYPE,
  flags: number,
  base: number,
  length: number,
): Aml {
  const values = [0, base, base + length - 1, 0, length]; // granularity, ends, translation, length
  const body = join(
    Uint8Array.of(TYPE[type], FIXED, flags),
    ...values.map((value) => littleEndian(value, width)),
  );
  return join(Uint8Array.of(TAG[width]), littleEndian(body.length, 2), body);
}

export const busWindow = (first: number, count: number): Aml =>
  window(2, "bus", FLAGS.bus, first, count);
export const ioWindow = (base: number, length: number): Aml =>
  window(2, "io", FLAGS.io, base, length);
export const memoryWindow32 = (base: number, length: number): Aml =>
  window(4, "memory", FLAGS.memory, base, length);
export const memoryWindow64 = (base: number, length: number): Aml =>
  window(8, "memory", FLAGS.prefetchable, base, length);
