import { describe, expect, it } from "vitest";
import type { FirmwareConfig } from "./config.js";
import { config } from "./fakes.js";
import { mpTable } from "./mptable.js";
import { smbiosTables } from "./smbios.js";

const sum = (bytes: Uint8Array): number => bytes.reduce((total, byte) => (total + byte) & 0xff, 0);
const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString("latin1");
const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset);

interface Structure {
  readonly type: number;
  readonly bytes: Uint8Array;
  readonly strings: readonly string[];
}

/** Walks the structures as dmidecode does. */
function structuresOf(changes: Partial<FirmwareConfig> = {}): readonly Structure[] {
  const { bytes } = smbiosTables(config(changes));
  const view = viewOf(bytes);
  const found: Structure[] = [];
  let at = view.getUint32(0x18, true) - 0xf1000;
  for (let index = 0; index < view.getUint16(0x1c, true); index++) {
    const length = bytes[at + 1] ?? 0;
    const end = text(bytes).indexOf("\0\0", at + length) + 2;
    const strings = text(bytes.subarray(at + length, end - 2)).split("\0");
    found.push({ type: bytes[at] ?? 0, bytes: bytes.subarray(at, at + length), strings });
    at = end;
  }
  expect(at).toBe(bytes.length);
  return found;
}

describe("SMBIOS", () => {
  it("has an entry point with both checksums right", () => {
    const { at, bytes } = smbiosTables(config());
    expect(at).toBe(0xf1000);
    expect(text(bytes.subarray(0, 4))).toBe("_SM_");
    expect(sum(bytes.subarray(0, 0x1f))).toBe(0);
    expect(sum(bytes.subarray(0x10, 0x1f))).toBe(0);
    expect([bytes[6], bytes[7]]).toEqual([2, 8]);
  });

  it("gives the UUID with its first three groups little-endian", () => {
    const system = structuresOf().find((one) => one.type === 1);
    expect(Buffer.from(system?.bytes.subarray(8, 24) ?? []).toString("hex")).toBe(
      "67452301ab89efcd0123456789abcdef",
    );
    expect(system?.strings[1]).toBe("BHYVE");
  });

  it("has the lengths of version 2.8", () => {
    const lengths = new Map(structuresOf().map((one) => [one.type, one.bytes.length]));
    expect(Object.fromEntries(lengths)).toEqual({
      0: 0x18,
      1: 0x1b,
      3: 0x16,
      4: 0x2a,
      16: 0x17,
      17: 0x28,
      19: 0x1f,
      32: 0x0b,
      127: 4,
    });
  });

  it("has room for 64 CPUs", () => {
    const cpus = structuresOf({ cpus: 64 }).filter((one) => one.type === 4);
    expect(cpus).toHaveLength(64);
    expect(cpus[63]?.strings[0]).toBe("CPU #63");
  });

  it("maps memory around the hole below 4 GiB", () => {
    const ranges = structuresOf({ memory: 5 * 2 ** 30 }).filter((one) => one.type === 19);
    const ends = ranges.map(({ bytes }) => [4, 8].map((at) => viewOf(bytes).getUint32(at, true)));
    expect(ends).toEqual([
      [0, 3 * 2 ** 20 - 1],
      [4 * 2 ** 20, 6 * 2 ** 20 - 1],
    ]);
  });

  it.each([
    [1 << 20, 1, 0],
    [(1 << 20) + 4096, 0x8000 | 1028, 0],
    [2 ** 40, 0x7fff, 2 ** 20],
  ])("states a memory of %d bytes", (memory, size, extended) => {
    const device = structuresOf({ memory }).find((one) => one.type === 17);
    const view = viewOf(device?.bytes ?? new Uint8Array(40));
    expect(view.getUint16(12, true)).toBe(size);
    expect(view.getUint32(0x1c, true)).toBe(extended);
  });
});

describe("the MP table", () => {
  const entries = (changes: Partial<FirmwareConfig> = {}): readonly Uint8Array[] => {
    const { bytes } = mpTable(config(changes));
    const view = viewOf(bytes);
    const table = view.getUint32(4, true) - 0xf0000;
    const count = view.getUint16(table + 34, true);
    const all: Uint8Array[] = [];
    let at = table + 44;
    for (let index = 0; index < count; index++) {
      const size = bytes[at] === 0 ? 20 : 8;
      all.push(bytes.subarray(at, at + size));
      at += size;
    }
    expect(at).toBe(bytes.length);
    return all;
  };

  it("has right checksums", () => {
    const { at, bytes } = mpTable(config());
    expect(at).toBe(0xf0000);
    expect(text(bytes.subarray(0, 4))).toBe("_MP_");
    expect(sum(bytes.subarray(0, 16))).toBe(0);
    expect(text(bytes.subarray(16, 20))).toBe("PCMP");
    expect(sum(bytes.subarray(16))).toBe(0);
  });

  it("has every CPU, the first as bootstrap processor", () => {
    const cpus = entries({ cpus: 64 }).filter((entry) => entry[0] === 0);
    expect(cpus.map((entry) => entry[1])).toEqual(Array.from({ length: 64 }, (_, id) => id));
    expect(cpus.map((entry) => entry[3])).toEqual([3, ...new Array(63).fill(1)]);
  });

  it("wires the timer to pin 2, the SCI level and low, and PCI as routed", () => {
    const lines = entries().filter((entry) => entry[0] === 3 && entry[1] === 0);
    const to = (busId: number, source: number): Uint8Array | undefined =>
      lines.find((entry) => entry[4] === busId && entry[5] === source);
    expect(to(1, 0)?.[7]).toBe(2);
    expect([to(1, 9)?.[2], to(1, 9)?.[7]]).toEqual([0xf, 9]);
    expect(to(1, 2)).toBeUndefined();
    expect(to(0, (3 << 2) | 1)?.[7]).toBe(16 + 4);
  });
});
