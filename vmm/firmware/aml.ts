// ACPI Machine Language from typed functions (ACPI 6.4 §20 "ACPI Machine Language Specification").
// Every function returns the bytes of one term; a table is their concatenation.

export type Aml = Uint8Array;

const bytes = (...values: number[]): Aml => Uint8Array.from(values);

export function join(...parts: readonly Aml[]): Aml {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

export function littleEndian(value: number | bigint, width: number): Aml {
  const out = new Uint8Array(width);
  let rest = BigInt(value);
  for (let index = 0; index < width; index++) {
    out[index] = Number(rest & 0xffn);
    rest >>= 8n;
  }
  return out;
}

// §20.2.2 Name objects.
const PARENT = "^";
const ROOT = "\\";
const DUAL = 0x2e;
const MULTI = 0x2f;

function segment(name: string): Aml {
  if (!/^[A-Z_][A-Z0-9_]{0,3}$/.test(name)) throw new Error(`AML: bad name segment ${name}`);
  return new TextEncoder().encode(name.padEnd(4, "_"));
}

/** `\_SB.PC00`, `^LNKA`, `_CRS`. */
export function path(name: string): Aml {
  const prefix = /^(\\|\^*)/.exec(name)?.[0] ?? "";
  const segments = name
    .slice(prefix.length)
    .split(".")
    .filter((part) => part !== "");
  const lead = [...prefix].map((char) => (char === ROOT || char === PARENT ? char : ""));
  const head = new TextEncoder().encode(lead.join(""));
  const names = segments.map(segment);
  if (names.length === 0) return join(head, bytes(0));
  if (names.length === 1) return join(head, ...names);
  if (names.length === 2) return join(head, bytes(DUAL), ...names);
  return join(head, bytes(MULTI, names.length), ...names);
}

/** §20.2.4: counts itself. */
function packageLength(rest: number): Aml {
  if (rest + 1 < 0x40) return bytes(rest + 1);
  const extra = rest + 2 < 0x1000 ? 1 : rest + 3 < 0x10_0000 ? 2 : 3;
  return fieldLength(rest + 1 + extra, extra);
}

/** A PkgLength that does not count itself (field elements), in as few bytes as it takes. */
function bitLength(bits: number): Aml {
  if (bits < 0x40) return bytes(bits);
  return fieldLength(bits, bits < 0x1000 ? 1 : bits < 0x10_0000 ? 2 : 3);
}

const fieldLength = (value: number, extra: number): Aml =>
  join(bytes((extra << 6) | (value & 0xf)), littleEndian(value >>> 4, extra));

const packaged = (opcode: readonly number[], ...parts: readonly Aml[]): Aml => {
  const body = join(...parts);
  return join(bytes(...opcode), packageLength(body.length), body);
};

// §20.2.3 Data objects.
export function integer(value: number | bigint): Aml {
  const number = BigInt(value);
  if (number === 0n) return bytes(0x00);
  if (number === 1n) return bytes(0x01);
  if (number <= 0xffn) return join(bytes(0x0a), littleEndian(number, 1));
  if (number <= 0xffffn) return join(bytes(0x0b), littleEndian(number, 2));
  if (number <= 0xffff_ffffn) return join(bytes(0x0c), littleEndian(number, 4));
  return join(bytes(0x0e), littleEndian(number, 8));
}

export const string = (text: string): Aml =>
  join(bytes(0x0d), new TextEncoder().encode(text), bytes(0));

export const buffer = (content: Aml): Aml => packaged([0x11], integer(content.length), content);

export const pkg = (...elements: readonly Aml[]): Aml =>
  packaged([0x12], bytes(elements.length), ...elements);

/** §19.3.4: three letters in 5 bits each, four hexadecimal digits, stored big-endian. */
export function eisaId(id: string): Aml {
  const match = /^([A-Z])([A-Z])([A-Z])([0-9A-F]{4})$/.exec(id);
  if (match === null) throw new Error(`AML: bad EISA id ${id}`);
  const letter = (index: number): number => (match[index] ?? "@").charCodeAt(0) - 0x40;
  const maker = (letter(1) << 10) | (letter(2) << 5) | letter(3);
  const number = Number.parseInt(match[4] ?? "0", 16);
  return join(bytes(0x0c, maker >> 8, maker & 0xff, number >> 8, number & 0xff));
}

/** §19.6.142 ToUUID: the first three groups little-endian. */
export function uuid(text: string): Aml {
  const raw = Buffer.from(text.replaceAll("-", ""), "hex");
  const order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
  return buffer(Uint8Array.from(order, (index) => raw[index] ?? 0));
}

// §20.2.5 Namespace modifiers and named objects.
export const name = (at: string, value: Aml): Aml => join(bytes(0x08), path(at), value);
export const scope = (at: string, ...body: readonly Aml[]): Aml =>
  packaged([0x10], path(at), ...body);
export const device = (at: string, ...body: readonly Aml[]): Aml =>
  packaged([0x5b, 0x82], path(at), ...body);

const SERIALIZED = 1 << 3;
/** Always serialized: most of ours create names, and none is hot. */
export const method = (at: string, args: number, ...body: readonly Aml[]): Aml =>
  packaged([0x14], path(at), bytes(args | SERIALIZED), ...body);

export const regionSpace = { memory: 0, io: 1, pciConfig: 2 } as const;
export const operationRegion = (
  at: string,
  space: keyof typeof regionSpace,
  offset: number,
  length: number,
): Aml =>
  join(bytes(0x5b, 0x80), path(at), bytes(regionSpace[space]), integer(offset), integer(length));

export type FieldElement =
  | { readonly name: string; readonly bits: number }
  | { readonly skip: number };
const BYTE_ACCESS = 1; // §20.2.5.2: ByteAcc, NoLock, Preserve
export const byteField = (region: string, ...elements: readonly FieldElement[]): Aml =>
  packaged([0x5b, 0x81], path(region), bytes(BYTE_ACCESS), ...elements.map(fieldElement));

const fieldElement = (element: FieldElement): Aml =>
  "skip" in element
    ? join(bytes(0), bitLength(element.skip))
    : join(segment(element.name), bitLength(element.bits));

export const createDWordField = (source: Aml, index: number, at: string): Aml =>
  join(bytes(0x8a), source, integer(index), path(at));
export const createWordField = (source: Aml, index: number, at: string): Aml =>
  join(bytes(0x8b), source, integer(index), path(at));

// §20.2.5.3 and .4: statements and expressions.
export const arg = (index: number): Aml => bytes(0x68 + index);
export const local = (index: number): Aml => bytes(0x60 + index);
const NOWHERE = bytes(0);
export const store = (value: Aml, target: Aml): Aml => join(bytes(0x70), value, target);
export const ret = (value: Aml): Aml => join(bytes(0xa4), value);
export const and = (a: Aml, b: Aml, target = NOWHERE): Aml => join(bytes(0x7b), a, b, target);
export const or = (a: Aml, b: Aml, target = NOWHERE): Aml => join(bytes(0x7d), a, b, target);
export const shiftLeft = (a: Aml, by: Aml, target = NOWHERE): Aml =>
  join(bytes(0x79), a, by, target);
export const subtract = (a: Aml, b: Aml, target = NOWHERE): Aml => join(bytes(0x74), a, b, target);
export const findSetRightBit = (a: Aml, target = NOWHERE): Aml => join(bytes(0x82), a, target);
export const equal = (a: Aml, b: Aml): Aml => join(bytes(0x93), a, b);
export const less = (a: Aml, b: Aml): Aml => join(bytes(0x95), a, b);
export const not = (a: Aml): Aml => join(bytes(0x92), a);
export const when = (condition: Aml, ...body: readonly Aml[]): Aml =>
  packaged([0xa0], condition, ...body);
/** Right after a when(). */
export const otherwise = (...body: readonly Aml[]): Aml => packaged([0xa1], ...body);
