import { expect, it } from "vitest";
import { checkDevice } from "../device.js";
import { FakeHost } from "../fakes.js";
import { PciBus } from "../pci/bus.js";
import { ResetControl, type ResetKind } from "./model.js";

function make() {
  const { bus, ...host } = new FakeHost();
  const kinds: ResetKind[] = [];
  const resetControl = new ResetControl({ resetRequested: (kind) => kinds.push(kind) });
  new PciBus({ ...host, bus }, { resetControl });
  return { bus, resetControl, kinds };
}

it.each([
  [0x04, "soft"],
  [0x06, "hard"],
  [0x0e, "full"],
] as const)("0xCF9 <- %i asks for a %s reset", (value, kind) => {
  const { bus, kinds } = make();
  bus.out(0xcf9, value & 0x0a);
  expect(kinds).toEqual([]);
  bus.out(0xcf9, value);
  expect(kinds).toEqual([kind]);
});

it("resets when bit 2 rises, not while it stays", () => {
  const { bus, kinds } = make();
  bus.out(0xcf9, 0x06);
  bus.out(0xcf9, 0x06);
  expect([kinds.length, bus.in(0xcf9)]).toEqual([1, 0x06]);
});

it("is apart from mechanism #1's address, which is a dword", () => {
  const { bus, kinds } = make();
  bus.out(0xcf8, 0x80000600, 4);
  bus.out(0xcf8, 0x0606, 2);
  expect([bus.in(0xcf8, 4), bus.in(0xcf9), kinds]).toEqual([0x80000600, 0, []]);
});

it("saves and restores", () => {
  const { resetControl, bus } = make();
  bus.out(0xcf9, 0x02);
  checkDevice(resetControl);
  expect(() => resetControl.restore({ control: "2" })).toThrow(/^reset-control\.control/);
  resetControl.reset();
  expect(bus.in(0xcf9)).toBe(0);
});
