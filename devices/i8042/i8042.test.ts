import { expect, it } from "vitest";
import { checkDevice } from "../device.js";
import { FakeHost } from "../fakes.js";
import { I8042Device } from "./adapter.js";

function make() {
  const host = new FakeHost();
  const a20: boolean[] = [];
  let resets = 0;
  const device = new I8042Device(host, {
    setA20: (on) => a20.push(on),
    resetRequested: () => resets++,
  });
  const { bus } = host;
  const command = (value: number) => bus.out(0x64, value);
  return { host, bus, device, a20, resets: () => resets, command };
}

it("passes the probes of a kernel", () => {
  const { bus, command } = make();
  expect(bus.in(0x64) & 0x01).toBe(0);
  command(0xaa);
  expect([bus.in(0x64) & 0x01, bus.in(0x60)]).toEqual([1, 0x55]);
  command(0xab);
  expect(bus.in(0x60)).toBe(0x00);
  command(0xa9);
  expect(bus.in(0x60)).not.toBe(0x00); // no auxiliary port
  expect(bus.in(0x64) & 0x01).toBe(0);
});

it("keeps the command byte, and its disable bits follow the commands", () => {
  const { bus, command } = make();
  const control = () => {
    command(0x20);
    return bus.in(0x60);
  };
  command(0x60);
  bus.out(0x60, 0x45);
  expect(control()).toBe(0x45);
  command(0xad);
  command(0xa7);
  expect(control()).toBe(0x75);
  command(0xae);
  command(0xa8);
  expect(control()).toBe(0x45);
});

it("answers for a keyboard that is not there with a time-out", () => {
  const { bus } = make();
  bus.out(0x60, 0xff);
  expect([bus.in(0x64) & 0x41, bus.in(0x60)]).toEqual([0x41, 0xfe]);
  expect(bus.in(0x64) & 0x41).toBe(0);
});

it("echoes the auxiliary loop-back without the auxiliary bit", () => {
  const { bus, command } = make();
  command(0xd3);
  bus.out(0x60, 0x5a);
  expect([bus.in(0x64) & 0x21, bus.in(0x60)]).toEqual([0x01, 0x5a]);
});

it("interrupts on IRQ 1 while its buffer is full and the command byte allows it", () => {
  const { host, bus, command } = make();
  const irq = host.interrupts.wire("isa", 1);
  command(0x60);
  bus.out(0x60, 0x01);
  command(0xaa);
  expect(irq.level).toBe(true);
  bus.in(0x60);
  expect(irq.level).toBe(false);
  command(0x60);
  bus.out(0x60, 0x00);
  command(0xaa);
  expect(irq.level).toBe(false);
});

it("switches A20 by its output port, by its commands and by port 0x92, which agree", () => {
  const { bus, command, a20 } = make();
  command(0xd1);
  bus.out(0x60, 0xdd);
  expect([a20.at(-1), bus.in(0x92) & 2]).toEqual([false, 0]);
  bus.out(0x92, 0x02);
  command(0xd0);
  expect([a20.at(-1), bus.in(0x60) & 2]).toEqual([true, 2]);
  command(0xdd);
  expect(a20.at(-1)).toBe(false);
  command(0xdf);
  expect(a20.at(-1)).toBe(true);
});

it.each([
  ["0xFE pulsed", (h: FakeHost) => h.bus.out(0x64, 0xfe)],
  ["port 0x92 bit 0", (h: FakeHost) => h.bus.out(0x92, 0x03)],
  [
    "output port bit 0 low",
    (h: FakeHost) => {
      h.bus.out(0x64, 0xd1);
      h.bus.out(0x60, 0xde);
    },
  ],
])("asks for a reset: %s", (_, act) => {
  const { host, resets } = make();
  act(host);
  expect(resets()).toBe(1);
});

it("does not reset when other lines are pulsed", () => {
  const { command, resets } = make();
  command(0xff);
  command(0xfd);
  expect(resets()).toBe(0);
});

it("takes every byte on every port in every order", () => {
  const { bus } = make();
  for (let value = 0; value < 256; value++) {
    for (const port of [0x64, 0x60, 0x92]) bus.out(port, value, value % 2 ? 1 : 4);
    for (const port of [0x64, 0x60, 0x92]) expect(bus.in(port)).toBeLessThan(256);
  }
});

it("saves and restores, A20 and a half-given command included", () => {
  const one = make();
  one.command(0xdd);
  one.command(0x60);
  const two = make();
  two.device.restore(JSON.parse(JSON.stringify(one.device.save())));
  expect(two.a20.at(-1)).toBe(false);
  two.bus.out(0x60, 0x44);
  two.command(0x20);
  expect(two.bus.in(0x60)).toBe(0x44);
  checkDevice(two.device);
  expect(() => two.device.restore({})).toThrow(/^i8042\.ram/);
  two.device.reset();
  expect(two.a20.at(-1)).toBe(true);
});
