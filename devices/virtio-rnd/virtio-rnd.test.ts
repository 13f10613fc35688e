import { expect, it } from "vitest";
import { checkDevice } from "../device.js";
import { FakeHost } from "../fakes.js";
import { PciBus } from "../pci/bus.js";
import { FakeDriver, FakePci } from "../virtio/fake-driver.js";
import { VirtioPci } from "../virtio/pci.js";
import { virtioRnd } from "./model.js";

function make(rate?: number) {
  const host = new FakeHost(2 ** 20);
  const fill = (bytes: Uint8Array): void => void bytes.fill(0xab);
  const address = { bus: 0, slot: 4, fn: 0 };
  const common = { name: "rnd", address, msix: true, log: () => {} };
  const device = new VirtioPci(host, new PciBus(host), virtioRnd, { rate, fill }, common);
  const driver = new FakeDriver(host, { slot: 4, interface: "legacy" });
  return { host, device, driver };
}

it("is the original's device", () => {
  const pci = new FakePci(make().host, 4);
  expect([pci.config(0), pci.config(8), pci.config(0x2c)]).toEqual([
    0x10051af4, 0x10000000, 0x00041af4,
  ]);
});

it("fills buffers, as far as one request may go", () => {
  const { driver } = make();
  const queue = driver.start().queue(0);
  queue.send([], [16, 8]);
  expect(
    queue.allUsed().map(({ length, bytes }) => [length, bytes.every((b) => b === 0xab)]),
  ).toEqual([[24, true]]);
  const page = { at: 0x1000, length: 4096, writable: true };
  queue.addBuffers(Array.from({ length: 40 }, () => page));
  queue.kick();
  expect(queue.used()?.length).toBe(65536);
  queue.send([new Uint8Array(4)], []); // nothing to fill
  expect(queue.used()?.length).toBe(0);
});

it("keeps to its rate, and forgets nobody", async () => {
  const { host, driver } = make(1000);
  const queue = driver.start().queue(0);
  host.clock.advance(10_000_000_000n); // earns no more than a burst
  for (let i = 0; i < 4; i++) queue.send([], [100]);
  expect(queue.allUsed().map(({ length }) => length)).toEqual([100]);
  host.clock.advance(100_000_000n);
  await Promise.resolve();
  expect(queue.allUsed().map(({ length }) => length)).toEqual([100]);
  host.clock.advance(1_000_000_000n);
  await Promise.resolve();
  expect(queue.allUsed().map(({ length }) => length)).toEqual([100, 100]);
});

it("at less than a byte in the shortest step still gives", async () => {
  const { host, driver } = make(2);
  const queue = driver.start().queue(0);
  queue.send([], [4]);
  host.clock.advance(3_000_000_000n);
  await Promise.resolve();
  expect(queue.used()?.length).toBeGreaterThan(0);
});

it("survives its registration", () => {
  checkDevice(make().device);
});
