import { expect, it } from "vitest";
import { checkDevice } from "../device.js";
import { FakeHost } from "../fakes.js";
import { PciBus } from "../pci/bus.js";
import type { SerialBackend, TerminalSize } from "../serial/backend.js";
import { FakeDriver } from "../virtio/fake-driver.js";
import { VirtioPci } from "../virtio/pci.js";
import { virtioConsole } from "./model.js";

class Cable implements SerialBackend {
  readonly lost = 0;
  output = "";
  /** What write() answers. */
  room = true;
  accepting = true;
  data: (bytes: Uint8Array) => void = () => {};
  drain: () => void = () => {};
  write(bytes: Uint8Array): boolean {
    this.output += Buffer.from(bytes).toString();
    return this.room;
  }
  onData(listener: (bytes: Uint8Array) => void): void {
    this.data = listener;
  }
  onDrain(listener: () => void): void {
    this.drain = listener;
  }
  resize: (size: TerminalSize) => void = () => {};
  onResize(listener: (size: TerminalSize) => void): void {
    this.resize = listener;
  }
  accept(on: boolean): void {
    this.accepting = on;
  }
  close(): void {}
}

function make() {
  const host = new FakeHost(2 ** 20);
  const cable = new Cable();
  const address = { bus: 0, slot: 4, fn: 0 };
  const common = { name: "console", address, msix: true, log: () => {} };
  const device = new VirtioPci(host, new PciBus(host), virtioConsole, { backend: cable }, common);
  const driver = new FakeDriver(host, { slot: 4, interface: "modern", features: [0, 2] });
  return { host, cable, device, driver };
}

const text = (value: string): Uint8Array => Buffer.from(value);
const settle = () => new Promise((done) => setImmediate(done));

it("carries output", () => {
  const { cable, driver } = make();
  const queue = driver.start().queue(1);
  queue.send([text("hello "), text("world")], []);
  expect([cable.output, queue.used()?.length]).toEqual(["hello world", 0]);
});

it("holds output back while the cable asks for it", async () => {
  const { cable, driver } = make();
  const queue = driver.start().queue(1);
  cable.room = false;
  for (const part of ["a", "b", "c"]) queue.send([text(part)], []);
  expect([cable.output, queue.allUsed().length]).toEqual(["a", 1]);
  cable.room = true;
  cable.drain();
  await settle();
  expect([cable.output, queue.allUsed().length]).toEqual(["abc", 2]);
});

it("carries input, before and after the guest gives buffers", async () => {
  const { cable, driver } = make();
  driver.start();
  cable.data(text("abcdef"));
  const queue = driver.queue(0);
  queue.send([], [4]);
  queue.send([], [4]);
  const parts = () =>
    queue.allUsed().map(({ length, bytes }) => Buffer.from(bytes.subarray(0, length)).toString());
  expect(parts()).toEqual(["abcd", "ef"]);
  queue.send([], [8]);
  cable.data(text("later"));
  await settle();
  expect(parts()).toEqual(["later"]);
});

it("tells the cable to hold back input that nobody reads, and keeps it over a save", () => {
  const { cable, device, driver } = make();
  driver.start();
  cable.data(new Uint8Array(70_000).fill(0x78));
  expect(cable.accepting).toBe(false);
  const other = make();
  other.driver.start();
  other.device.restore(JSON.parse(JSON.stringify(device.save())));
  checkDevice(other.device);
});

it("writes characters before the driver is up", () => {
  const { cable, driver } = make();
  driver.setConfig(8, 0x21, 4);
  expect(cable.output).toBe("!");
});

it("tells the driver how large the terminal is, when that changes, and after a save", () => {
  const { cable, device, driver } = make();
  cable.resize({ columns: 80, rows: 25 });
  driver.start();
  const size = (one = driver) => [one.config(0, 2), one.config(2, 2)];
  expect(size()).toEqual([80, 25]);
  const before = driver.common(0x15, 1);
  cable.resize({ columns: 80, rows: 25 });
  expect(driver.common(0x15, 1)).toBe(before);
  cable.resize({ columns: 400, rows: 300 });
  expect([size(), driver.common(0x15, 1)]).toEqual([[400, 300], before + 1]);
  const other = make();
  other.driver.start();
  const saved = JSON.parse(JSON.stringify(device.save())) as object;
  other.device.restore(saved);
  expect(size(other.driver)).toEqual([400, 300]);
});

it("tells a driver whose port stood later than the driver, some times and not too fast", () => {
  const { host, cable, driver } = make();
  cable.resize({ columns: 80, rows: 25 });
  const queue = driver.start().queue(1);
  const tellings = (): number => driver.common(0x15, 1);
  const before = tellings();
  const speak = (after: bigint): void => {
    host.clock.advance(after);
    queue.send([text("x")], []);
  };
  speak(1_000_000_000n);
  expect(tellings()).toBe(before + 1);
  speak(1_000_000n);
  expect(tellings()).toBe(before + 1);
  for (let at = 0; at < 20; at++) speak(1_000_000_000n);
  expect(tellings()).toBe(before + 10);
});
