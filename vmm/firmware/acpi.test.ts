import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { acpiTables } from "./acpi.js";
import type { FirmwareConfig } from "./config.js";
import { config } from "./fakes.js";

const AREA = 0xf2400;

/** Finds tables as a guest does: from the root pointer, by address. */
class Reader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;

  constructor(changes: Partial<FirmwareConfig> = {}) {
    this.#bytes = acpiTables(config(changes)).bytes;
    this.#view = new DataView(this.#bytes.buffer, this.#bytes.byteOffset);
  }

  sum(at: number, length: number): number {
    return this.slice(at, length).reduce((total, byte) => (total + byte) & 0xff, 0);
  }

  slice(at: number, length: number): Uint8Array {
    return this.#bytes.subarray(at - AREA, at - AREA + length);
  }

  text(at: number, length: number): string {
    return Buffer.from(this.slice(at, length)).toString("latin1");
  }

  u8 = (at: number): number => this.#view.getUint8(at - AREA);
  u16 = (at: number): number => this.#view.getUint16(at - AREA, true);
  u32 = (at: number): number => this.#view.getUint32(at - AREA, true);
  u64 = (at: number): number => Number(this.#view.getBigUint64(at - AREA, true));

  table(signature: string): number {
    const xsdt = this.u64(AREA + 24);
    const count = (this.u32(xsdt + 4) - 36) / 8;
    const all = Array.from({ length: count }, (_, index) => this.u64(xsdt + 36 + index * 8));
    const found = all.find((at) => this.text(at, 4) === signature);
    if (found === undefined) throw new Error(`no ${signature}`);
    return found;
  }
}

describe("the ACPI tables", () => {
  it("begin with a root pointer that both checksums cover", () => {
    const tables = new Reader();
    expect(tables.text(AREA, 8)).toBe("RSD PTR ");
    expect(tables.sum(AREA, 20)).toBe(0);
    expect(tables.sum(AREA, 36)).toBe(0);
    expect(tables.u8(AREA + 15)).toBe(2);
  });

  it("list the same tables in RSDT and XSDT, each with a right checksum", () => {
    const tables = new Reader();
    const rsdt = tables.u32(AREA + 16);
    for (const [index, signature] of ["FACP", "APIC", "HPET", "MCFG"].entries()) {
      const at = tables.table(signature);
      expect(tables.sum(at, tables.u32(at + 4))).toBe(0);
      expect(tables.u32(rsdt + 36 + index * 4)).toBe(at);
    }
    expect(tables.sum(rsdt, tables.u32(rsdt + 4))).toBe(0);
  });

  it("describe the fixed hardware", () => {
    const tables = new Reader();
    const fadt = tables.table("FACP");
    expect(tables.u32(fadt + 4)).toBe(276);
    expect([tables.u8(fadt + 8), tables.u8(fadt + 131)]).toEqual([6, 4]); // revision, minor
    expect(tables.u16(fadt + 46)).toBe(9); // SCI
    expect(tables.u32(fadt + 48)).toBe(0xb2);
    expect([tables.u8(fadt + 52), tables.u8(fadt + 53)]).toEqual([0xa0, 0xa1]);
    expect(tables.u32(fadt + 56)).toBe(0x400);
    expect(tables.u32(fadt + 64)).toBe(0x404);
    expect(tables.u32(fadt + 76)).toBe(0x408);
    expect([88, 89, 91].map((at) => tables.u8(fadt + at))).toEqual([4, 2, 4]);
    expect(tables.u8(fadt + 108)).toBe(0x32);
    expect(tables.u16(fadt + 109)).toBe(0x5);
    expect(tables.u32(fadt + 112) & (1 << 4)).toBe(0); // a fixed power button
    expect(tables.u32(fadt + 112) & (1 << 10)).not.toBe(0); // the reset register counts
    expect([tables.u8(fadt + 116), tables.u8(fadt + 117)]).toEqual([1, 8]);
    expect(tables.u64(fadt + 120)).toBe(0xcf9);
    expect(tables.u8(fadt + 128)).toBe(6);
    expect(tables.u64(fadt + 140)).toBe(tables.u32(fadt + 40)); // X_DSDT
  });

  it("give each extended block the length of its old one", () => {
    const tables = new Reader();
    const fadt = tables.table("FACP");
    const blocks = [
      [148, 56, 88],
      [172, 64, 89],
      [208, 76, 91],
    ] as const;
    for (const [extended, old, length] of blocks) {
      expect(tables.u8(fadt + extended)).toBe(1); // I/O space
      expect(tables.u8(fadt + extended + 1)).toBe(tables.u8(fadt + length) * 8);
      expect(tables.u64(fadt + extended + 4)).toBe(tables.u32(fadt + old));
    }
  });

  it("align the FACS to 64 bytes", () => {
    const tables = new Reader();
    const facs = tables.u32(tables.table("FACP") + 36);
    expect(facs % 64).toBe(0);
    expect(tables.text(facs, 4)).toBe("FACS");
  });

  it("have a local APIC for every CPU", () => {
    const tables = new Reader({ cpus: 64 });
    const madt = tables.table("APIC");
    const end = madt + tables.u32(madt + 4);
    const ids: number[] = [];
    for (let at = madt + 44; at < end; at += tables.u8(at + 1)) {
      if (tables.u8(at) === 0) ids.push(tables.u8(at + 3));
    }
    expect(ids).toEqual(Array.from({ length: 64 }, (_, index) => index));
  });

  it("tell where ECAM is", () => {
    const tables = new Reader();
    const mcfg = tables.table("MCFG");
    expect(tables.u64(mcfg + 44)).toBe(0xe0000000);
    expect([tables.u8(mcfg + 54), tables.u8(mcfg + 55)]).toEqual([0, 255]);
  });
});

const iasl = spawnSync("iasl", ["-v"]).status === 0;
const folder = mkdtempSync(join(tmpdir(), "xhyved-dsdt-"));
afterAll(() => rmSync(folder, { recursive: true }));

function disassemble(changes: Partial<FirmwareConfig> = {}): string {
  const tables = new Reader(changes);
  const dsdt = tables.u32(tables.table("FACP") + 40);
  writeFileSync(join(folder, "dsdt.aml"), tables.slice(dsdt, tables.u32(dsdt + 4)));
  const run = spawnSync("iasl", ["-d", "dsdt.aml"], { cwd: folder, encoding: "utf8" });
  expect(run.status, run.stderr).toBe(0);
  return readFileSync(join(folder, "dsdt.dsl"), "utf8");
}

describe.skipIf(!iasl)("the DSDT", () => {
  it("compiles again without an error or warning", () => {
    disassemble();
    const run = spawnSync("iasl", ["-tc", "dsdt.dsl"], { cwd: folder, encoding: "utf8" });
    expect(run.stdout + run.stderr).toMatch(/ 0 Errors, 0 Warnings/);
  });

  it("names the S5 state, the CPUs, the root bridge and the power state only", () => {
    const text = disassemble({ cpus: 3 });
    expect(text).toMatch(/Name \(\\_S5, Package \(0x04\)/);
    expect(text).not.toMatch(/_S3/);
    expect(text.match(/"ACPI0007"/g)).toHaveLength(3);
    expect(text).toMatch(/EisaId \("PNP0A08"\)/);
  });

  it("routes every slot and pin in both modes", () => {
    const text = disassemble();
    expect(text).toMatch(/0x0002FFFF,\s+0x03,\s+Zero,\s+0x15/); // slot 2 INTD: 16 + 5
    expect(text.match(/0x00[01][0-9A-F]FFFF|\b0xFFFF,/g)?.length).toBeGreaterThanOrEqual(256);
    expect(text).toMatch(/0x0002FFFF,\s+0x03,\s+\\?_SB\.LNKF/);
  });

  it("leaves out what hangs on an LPC bridge that is not there", () => {
    const text = disassemble({ lpcSlot: undefined });
    expect(text).not.toMatch(/PNP0501|PNP0C0F/);
    expect(text).toMatch(/Name \(_PRT/);
  });
});
