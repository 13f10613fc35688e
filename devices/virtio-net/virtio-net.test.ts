import { expect, it } from "vitest";
import { checkDevice } from "../device.js";
import { FakeHost } from "../fakes.js";
import type { NetBackend } from "../net/backend.js";
import { FakePort } from "../net/fakes.js";
import { printMac } from "../net/mac.js";
import { PciBus } from "../pci/bus.js";
import { FakeDriver, type FakeDriverOptions, type FakeQueue } from "../virtio/fake-driver.js";
import { VirtioPci } from "../virtio/pci.js";
import { type NetCard, virtioNet } from "./model.js";

const MAC = "02:11:22:33:44:55";
// VIRTIO 1.2, "Network Device": feature bits.
const [CSUM, GUEST_CSUM, GUEST_TSO4, HOST_TSO4, MRG, STATUS] = [0, 1, 7, 11, 15, 16];
const [CTRL_VQ, CTRL_RX, CTRL_VLAN, ANNOUNCE, CTRL_MAC] = [17, 18, 19, 21, 23];

class Cable implements NetBackend {
  readonly kind = "fake";
  readonly detail = "";
  readonly offloads = 15;
  port: FakePort | undefined;
  fault: string | undefined;
  change: () => void = () => {};
  closed = false;
  onChange(listener: () => void): void {
    this.change = listener;
  }
  lost(why: string): void {
    this.fault = why;
    this.port = undefined;
    this.change();
  }
  close(): void {
    this.closed = true;
  }
}

function make(options: Partial<FakeDriverOptions> = {}) {
  const host = new FakeHost(2 ** 21);
  const cable = new Cable();
  const port = new FakePort(host.memory);
  cable.port = port;
  const log: string[] = [];
  let card: NetCard | undefined;
  const mac = Uint8Array.from(MAC.split(":"), (byte) => Number.parseInt(byte, 16));
  const device = new VirtioPci(
    host,
    new PciBus(host),
    virtioNet,
    {
      backend: cable,
      mac,
      mtu: 1400,
      link: true,
      made: (one) => {
        card = one;
      },
    },
    {
      name: "net",
      address: { bus: 0, slot: 4, fn: 0 },
      msix: true,
      log: (text) => void log.push(text),
    },
  );
  const driver = new FakeDriver(host, { slot: 4, interface: "modern", ...options });
  if (card === undefined) throw new Error("no card was made");
  return { host, cable, port, device, driver, card, log };
}

const frame = (length: number, fill = 0x5a): Uint8Array => new Uint8Array(length).fill(fill);
const header = (...bytes: number[]): Uint8Array =>
  Uint8Array.from({ length: 12 }, (_, i) => bytes[i] ?? 0);
const settle = () => new Promise((done) => setImmediate(done));
const command = (queue: FakeQueue, bytes: number[]): number => {
  queue.send([Uint8Array.from(bytes)], [1]);
  return queue.used()?.bytes[0] ?? -1;
};

it("shows its address, link and MTU, and takes what the driver negotiates", () => {
  const { driver, port } = make({
    features: [CSUM, GUEST_CSUM, GUEST_TSO4, HOST_TSO4, MRG, STATUS],
  });
  driver.start();
  const mac = Array.from({ length: 6 }, (_, at) => driver.config(at, 1));
  expect(printMac(Uint8Array.from(mac))).toBe(MAC);
  expect([driver.config(6, 2), driver.config(8, 2), driver.config(10, 2)]).toEqual([1, 1, 1400]);
  expect(port.agreement).toEqual({ header: 12, mergeable: true, checksums: true, accepts: 3 });
});

it("has ten bytes of header for old drivers, who may choose an address", () => {
  const { driver, port, card } = make({ interface: "legacy" });
  driver.start();
  expect(port.agreement).toMatchObject({ header: 10, mergeable: false, checksums: false });
  driver.setConfig(5, 0x77, 1);
  expect(printMac(card.mac)).toBe("02:11:22:33:44:77");
});

it("sends many frames in one call, headers and all", () => {
  const { driver, port } = make();
  const queue = driver.start().queue(1);
  for (let i = 0; i < 40; i++) queue.add([header(), frame(60 + i, i)], []);
  const before = port.calls;
  queue.kick();
  expect(port.sent.length).toBe(40);
  expect(port.sent[7]?.subarray(12)).toEqual(frame(67, 7));
  expect(queue.allUsed().length).toBe(40);
  expect(port.calls - before).toBeLessThan(5);
});

it("keeps frames that the host has no room for, in their order", async () => {
  const { driver, port } = make();
  const queue = driver.start().queue(1);
  port.credit = 3;
  for (let i = 0; i < 5; i++) queue.add([header(), frame(60, i)], []);
  queue.kick();
  expect([queue.allUsed().length, port.watched.writable]).toEqual([3, true]);
  port.room(2);
  await settle();
  expect(queue.allUsed().length).toBe(2);
  expect(port.sent.map((one) => one[12])).toEqual([0, 1, 2, 3, 4]);
});

it("receives many frames a call, in as many buffers as they take", async () => {
  const { driver, port } = make({ features: [MRG] });
  const queue = driver.start().queue(0);
  for (let i = 0; i < 64; i++) queue.add([], [512]);
  queue.kick();
  const before = port.calls;
  port.arrive(frame(100, 1), frame(1400, 2), ...Array.from({ length: 20 }, () => frame(60, 3)));
  await settle();
  const used = queue.allUsed();
  expect(used.length).toBe(1 + 3 + 20);
  expect(used[0]?.length).toBe(112);
  expect(used.slice(1, 4).map(({ length }) => length)).toEqual([512, 512, 1412 - 1024]);
  expect(used[1]?.bytes[10]).toBe(3);
  expect(port.calls - before).toBeLessThan(4);
});

it("waits for buffers without spinning, and goes on when there are some", async () => {
  const { driver, port } = make({ features: [MRG] });
  const queue = driver.start().queue(0);
  port.arrive(frame(100));
  await settle();
  expect([port.watched.readable, port.undelivered]).toEqual([false, 1]);
  queue.add([], [2048]);
  queue.send([], [2048]);
  await settle();
  expect([queue.allUsed().length, port.watched.readable]).toEqual([1, true]);
});

it("drops what no buffer of the ring could hold", async () => {
  const { driver, port } = make({ features: [MRG], queueSize: 4 });
  const queue = driver.start().queue(0);
  for (let i = 0; i < 4; i++) queue.add([], [256]);
  queue.kick();
  port.arrive(frame(3000), frame(60));
  await settle();
  expect(queue.allUsed().map(({ length }) => length)).toEqual([72]);
});

it("gives a buffer back that cannot hold a header", async () => {
  const { driver, port, log } = make({ features: [MRG] });
  const queue = driver.start().queue(0);
  queue.add([], [8]);
  queue.send([], [512]);
  port.arrive(frame(60));
  await settle();
  expect(queue.allUsed().map(({ length }) => length)).toEqual([0, 72]);
  expect(log.join()).toContain("receive buffer of 8 bytes");
});

it("does what the control queue says, and refuses nonsense", () => {
  const { driver, port, card } = make({
    features: [CTRL_VQ, CTRL_RX, CTRL_VLAN, ANNOUNCE, CTRL_MAC],
  });
  const queue = driver.start().queue(2);
  expect(port.filtered?.mode).toBe(1);
  expect(port.filtered?.vlans.length).toBe(512);
  expect(command(queue, [0, 0, 0])).toBe(0); // not promiscuous
  expect(command(queue, [0, 1, 1])).toBe(0); // all multicast
  expect(port.filtered?.mode).toBe(2);
  const table = [1, 0, 0, 0, 2, 0, 0, 0, 0, 9, 1, 0, 0, 0, 1, 0, 94, 0, 0, 1];
  expect(command(queue, [1, 0, ...table])).toBe(0);
  expect([...(port.filtered?.addresses ?? [])]).toEqual([2, 0, 0, 0, 0, 9, 1, 0, 94, 0, 0, 1]);
  expect(command(queue, [1, 1, 2, 0, 0, 0, 0, 7])).toBe(0);
  expect(printMac(card.mac)).toBe("02:00:00:00:00:07");
  expect(command(queue, [1, 1, 3, 0, 0, 0, 0, 7])).toBe(1); // multicast
  expect(command(queue, [1, 0, 255, 255, 255, 255])).toBe(1);
  expect(command(queue, [2, 0, 5, 0])).toBe(0);
  expect(port.filtered?.vlans[0]).toBe(1 << 5);
  expect(command(queue, [2, 0, 0, 16])).toBe(1);
  expect(command(queue, [4, 0, 1, 0])).toBe(1); // multiqueue was not offered
  expect(command(queue, [9])).toBe(1);
});

it("shows a cable that is pulled, and lets nothing old through afterwards", async () => {
  const { driver, port, card, host } = make({ features: [STATUS, MRG], interrupts: "msix" });
  driver.start();
  driver.setCommon(0x10, 0, 2); // the configuration's vector
  const messages = host.interrupts.messages.length;
  card.link = false;
  expect([driver.config(6, 2), port.filtered?.mode]).toEqual([0, 56]);
  expect(host.interrupts.messages.length).toBeGreaterThan(messages);
  const queue = driver.queue(1);
  queue.send([header(), frame(60)], []);
  expect([queue.allUsed().length, port.sent.length]).toEqual([1, 0]);
  expect(card.statistics.sendDropped).toBe(1);
  card.link = true;
  expect(driver.config(6, 2)).toBe(1);
});

it("survives its port: the link goes down, and up with another", async () => {
  const { driver, port, cable, host, card } = make({ features: [STATUS, MRG] });
  driver.start();
  const queue = driver.queue(0);
  for (let i = 0; i < 4; i++) queue.add([], [2048]);
  queue.kick();
  const capture = { fd: 9, name: "x", limit: 100, snap: 100 };
  expect(card.capture(capture)).toBe(true);
  port.down = "its other end is closed";
  port.arrive(frame(60));
  expect([driver.config(6, 2), cable.fault]).toEqual([0, "its other end is closed"]);
  expect([port.captured, card.statistics.capturedFrames]).toEqual([undefined, 0]);
  const next = new FakePort(host.memory);
  cable.port = next;
  cable.change();
  expect([driver.config(6, 2), next.posted]).toEqual([1, 4]);
  expect(next.captured).toBe(capture);
  next.arrive(frame(60));
  await settle();
  expect(queue.allUsed().length).toBe(1);
});

it("keeps buffers and frames over a save, and announces itself", async () => {
  const features = [STATUS, MRG, CTRL_VQ, ANNOUNCE];
  const { driver, port, device, host } = make({ features });
  driver.start();
  for (let i = 0; i < 3; i++) driver.queue(0).add([], [2048]);
  driver.queue(0).kick();
  port.credit = 0;
  driver.queue(1).send([header(), frame(60, 9)], []);
  await device.rest();
  const saved = JSON.parse(JSON.stringify(device.save()));
  const other = make({ features });
  other.host.memory.bytes.set(host.memory.bytes);
  other.device.restore(saved);
  checkDevice(other.device);
  other.device.restore(saved);
  other.device.wake();
  expect(other.port.sent.map((one) => one[12])).toEqual([9]);
  expect(other.port.posted).toBe(3);
  other.port.arrive(frame(60, 4));
  await settle();
  expect(other.port.posted).toBe(2);
  expect((device.core.model.config?.[6] ?? 0) & 2).toBe(0);
  expect((other.device.core.model.config?.[6] ?? 0) & 2).toBe(2);
});

it("touches nothing after a reset", async () => {
  const { driver, port, device } = make({ features: [MRG] });
  driver.start();
  driver.queue(0).send([], [2048]);
  device.reset();
  expect([port.posted, port.watched]).toEqual([0, { readable: false, writable: false }]);
});
