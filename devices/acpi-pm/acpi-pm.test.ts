import { expect, it } from "vitest";
import { checkDevice } from "../device.js";
import { FakeHost } from "../fakes.js";
import { AcpiPmDevice } from "./adapter.js";

function make() {
  const host = new FakeHost();
  let offs = 0;
  const enabled: boolean[] = [];
  const device = new AcpiPmDevice(host, {
    powerOff: () => offs++,
    acpiEnabled: (on) => enabled.push(on),
  });
  return {
    host,
    bus: host.bus,
    device,
    sci: host.interrupts.wire("isa", 9),
    offs: () => offs,
    enabled,
  };
}

it("is enabled and disabled by the SMI command port, which sets SCI_EN", () => {
  const { bus, device, enabled } = make();
  expect(bus.in(0x404, 2)).toBe(0);
  bus.out(0xb2, 0xa0);
  expect([bus.in(0x404, 2), device.acpiEnabled]).toEqual([1, true]);
  bus.out(0x404, 0, 2); // SCI_EN is not the guest's to clear
  expect(bus.in(0x404, 2)).toBe(1);
  bus.out(0xb2, 0xa1);
  expect([device.acpiEnabled, enabled]).toEqual([false, [true, false]]);
});

it("raises a level SCI for the power button until its status bit is cleared", () => {
  const { bus, device, sci, host } = make();
  expect(device.press()).toBe(false);
  bus.out(0xb2, 0xa0);
  bus.out(0x402, 0x0120, 2);
  expect(device.press()).toBe(true);
  expect([bus.in(0x400, 2), sci.level]).toEqual([0x0100, true]);
  bus.out(0x400, 0x0020, 2);
  expect(sci.level).toBe(true);
  bus.out(0x400, 0x0100, 2);
  expect([bus.in(0x400, 2), sci.level]).toEqual([0, false]);
  expect(host.interrupts.levelTriggered.has(9)).toBe(true);
});

it("raises no SCI while the event is not enabled", () => {
  const { bus, device, sci } = make();
  bus.out(0xb2, 0xa0);
  device.press();
  expect(sci.level).toBe(false);
  bus.out(0x402, 0xffff, 2);
  expect([bus.in(0x402, 2), sci.level]).toEqual([0x0520, true]);
});

it("powers off on S5 and on no other sleep type; SLP_EN reads as zero", () => {
  const { bus, offs } = make();
  for (const type of [0, 1, 2, 3, 4, 6, 7]) bus.out(0x404, 0x2000 | (type << 10), 2);
  expect(offs()).toBe(0);
  bus.out(0x404, 5 << 10, 2);
  expect(offs()).toBe(0);
  bus.out(0x404, 0x2000 | (5 << 10), 2);
  expect([offs(), bus.in(0x404, 2) & 0x2000]).toEqual([1, 0]);
});

it("is met as one dword, as bytes, and past its end", () => {
  const { bus } = make();
  bus.out(0x400, 0x01200000, 4);
  expect([bus.in(0x400, 4), bus.in(0x403), bus.in(0x402, 2)]).toEqual([0x01200000, 0x01, 0x0120]);
  expect(bus.in(0x406, 2)).toBe(0xffff);
  bus.out(0xb3, 0x5a);
  expect(bus.in(0xb2, 2)).toBe(0x5a00);
});

it("saves and restores with the SCI's level", () => {
  const one = make();
  one.bus.out(0xb2, 0xa0);
  one.bus.out(0x402, 0x100, 2);
  one.device.press();
  const two = make();
  two.device.restore(JSON.parse(JSON.stringify(one.device.save())));
  expect([two.sci.level, two.device.acpiEnabled, two.enabled]).toEqual([true, true, [true]]);
  checkDevice(two.device);
  expect(() => two.device.restore({ status: -1 })).toThrow(/^acpi-pm\.status/);
  two.device.reset();
  expect([two.sci.level, two.bus.in(0x400, 4), two.device.acpiEnabled]).toEqual([false, 0, false]);
});
