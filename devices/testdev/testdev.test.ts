import { expect, it } from "vitest";
import { DebugExit } from "../debugexit/model.js";
import { checkDevice } from "../device.js";
import { FakeHost } from "../fakes.js";
import { PostPorts } from "../post/model.js";
import { TestDevice } from "./model.js";

it("latches every width at 0xE0 to 0xE3", () => {
  const { bus, ...rest } = new FakeHost();
  new TestDevice({ bus, ...rest });
  bus.out(0xe0, 0x44332211, 4);
  expect([bus.in(0xe0), bus.in(0xe1, 2), bus.in(0xe0, 4)]).toEqual([0x11, 0x3322, 0x44332211]);
  bus.out(0xe2, 0xbeef, 2);
  expect(bus.in(0xe0, 4)).toBe(0xbeef2211);
});

it("drives ISA IRQs and IO-APIC pins at 0x2000 + GSI", () => {
  const { bus, interrupts, ...rest } = new FakeHost();
  new TestDevice({ bus, interrupts, ...rest });
  bus.out(0x2005, 1);
  bus.out(0x2012, 1);
  expect(interrupts.wire("isa", 5).level).toBe(true);
  expect([interrupts.wire("ioapic", 18).level, bus.in(0x2012)]).toEqual([true, 1]);
  bus.out(0x2005, 0);
  expect(interrupts.wire("isa", 5).level).toBe(false);
});

it("has memory at 0xFF000000 that is met only by exits", () => {
  const { bus, ...rest } = new FakeHost();
  const device = new TestDevice({ bus, ...rest });
  bus.store(0xff000000, 0xdeadbeef, 4);
  bus.store(0xff00fffe, 0x1234, 2);
  const before = bus.directs;
  expect([bus.load(0xff000002, 2), bus.load(0xff00fffe, 2)]).toEqual([0xdead, 0x1234]);
  expect(bus.directs - before).toBe(2);
  checkDevice(device);
  device.reset();
  expect(bus.load(0xff000000)).toBe(0);
});

it("debugexit ends the VM with (V << 1) | 1", () => {
  const { bus, ...rest } = new FakeHost();
  const statuses: number[] = [];
  checkDevice(new DebugExit({ bus, ...rest }, { exit: (status) => statuses.push(status) }));
  bus.out(0xf4, 0, 1);
  bus.out(0xf4, 0x10, 4);
  expect([statuses, bus.in(0xf4)]).toEqual([[1, 0x21], 0xff]);
});

it("POST ports swallow writes without an exit and read all ones", () => {
  const { bus, ...rest } = new FakeHost();
  const post = new PostPorts({ bus, ...rest });
  bus.out(0x80, 0x12);
  bus.out(0x84, 0x12);
  expect([bus.in(0x80), bus.in(0x84), bus.directs]).toEqual([0xff, 0xff, 0]);
  checkDevice(post);
});
