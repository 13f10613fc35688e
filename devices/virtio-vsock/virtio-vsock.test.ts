import { expect, it } from "vitest";
import { checkDevice } from "../device.js";
import { FakeHost } from "../fakes.js";
import { PciBus } from "../pci/bus.js";
import { FakeDriver } from "../virtio/fake-driver.js";
import { VirtioPci } from "../virtio/pci.js";
import { FakeVsockHost } from "./fakes.js";
import { virtioVsock } from "./model.js";
import {
  HEADER_LENGTH,
  HOST_CID,
  OP,
  type Packet,
  readHeader,
  SHUTDOWN,
  TYPE_STREAM,
  writeHeader,
} from "./registers.js";

const CID = 3;
const BUFFER = 4096;
const GUEST_PORT = 1000;
const HOST_PORT = 52;

function make() {
  const host = new FakeHost(2 ** 24);
  const sockets = new FakeVsockHost();
  const log: string[] = [];
  const device = new VirtioPci(
    host,
    new PciBus(host),
    virtioVsock,
    { cid: CID, host: sockets },
    {
      name: "vsock",
      address: { bus: 0, slot: 4, fn: 0 },
      msix: true,
      log: (text) => void log.push(text),
    },
  );
  return { host, sockets, device, log };
}

/** The transport queues run until nothing more happens by itself. */
const settle = async (): Promise<void> => {
  for (let i = 0; i < 12; i++) await new Promise((done) => setImmediate(done));
};

interface Heard extends Packet {
  readonly data: string;
}

class Guest {
  readonly driver: FakeDriver;

  constructor(host: FakeHost) {
    this.driver = new FakeDriver(host, { slot: 4, interface: "modern" }).start();
  }
  buffers(count: number, size = BUFFER): void {
    for (let i = 0; i < count; i++) this.driver.queue(0).add([], [size]);
    this.driver.queue(0).kick();
  }
  say(op: number, packet: Partial<Packet> = {}, data = new Uint8Array()): void {
    const header = {
      sourceCid: CID,
      targetCid: HOST_CID,
      sourcePort: GUEST_PORT,
      targetPort: HOST_PORT,
      length: data.length,
      type: TYPE_STREAM,
      op,
      flags: 0,
      bufferSize: 65536,
      forwarded: 0,
      ...packet,
    };
    this.driver.queue(1).add([writeHeader(header), ...(data.length > 0 ? [data] : [])], []);
    this.driver.queue(1).kick();
  }
  /** Packets that have come, and as many buffers again. */
  async hear(): Promise<Heard[]> {
    await settle();
    const used = this.driver.queue(0).allUsed();
    if (used.length > 0) this.buffers(used.length);
    return used.map(({ bytes, length }) => ({
      ...readHeader(bytes.subarray(0, HEADER_LENGTH)),
      data: Buffer.from(bytes.subarray(HEADER_LENGTH, length)).toString("latin1"),
    }));
  }
  async ops(): Promise<number[]> {
    return (await this.hear()).map(({ op }) => op);
  }
}

async function connected(packet: Partial<Packet> = {}) {
  const made = make();
  const guest = new Guest(made.host);
  guest.buffers(32);
  guest.say(OP.request, packet);
  expect(await guest.ops()).toEqual([OP.response]);
  const [stream] = made.sockets.accepted;
  if (stream === undefined) throw new Error("nobody connected");
  return { ...made, guest, stream };
}

const text = (value: string) => Uint8Array.from(Buffer.from(value, "latin1"));

it("shows the guest its address, and has a stream to what listens on the host", async () => {
  const { guest, stream, sockets } = await connected();
  expect([guest.driver.config(0, 4), sockets.ports]).toEqual([CID, [HOST_PORT]]);
  guest.say(OP.rw, {}, text("from the guest"));
  await settle();
  stream.write("from the host");
  const [answer] = await guest.hear();
  expect(stream.text).toBe("from the guest");
  expect(answer).toMatchObject({ op: OP.rw, data: "from the host", forwarded: 14 });
  expect(answer).toMatchObject({ sourceCid: HOST_CID, targetCid: CID, sourcePort: HOST_PORT });
});

it("answers a port that nobody listens on with a reset", async () => {
  const { host, sockets } = make();
  sockets.closedPorts.add(HOST_PORT);
  const guest = new Guest(host);
  guest.buffers(4);
  guest.say(OP.request);
  expect(await guest.ops()).toEqual([OP.rst]);
});

it("lets the host connect, by the word OK", async () => {
  const { host, sockets } = make();
  const guest = new Guest(host);
  guest.buffers(8);
  const stream = sockets.dial(7);
  const [request] = await guest.hear();
  expect(request).toMatchObject({ op: OP.request, targetPort: 7 });
  const ports = { sourcePort: 7, targetPort: request?.sourcePort ?? 0 };
  guest.say(OP.response, ports);
  stream.write("hello");
  expect((await guest.hear()).map(({ data }) => data)).toEqual(["hello"]);
  guest.say(OP.rw, ports, text("hi"));
  await settle();
  expect(stream.text).toBe(`OK ${ports.targetPort}\nhi`);
});

it("gives up a guest that does not answer, and none that has", async () => {
  const { host, sockets } = make();
  const guest = new Guest(host);
  guest.buffers(8);
  const [deaf, heard] = [sockets.dial(7), sockets.dial(8)];
  const [, second] = await guest.hear();
  guest.say(OP.response, { sourcePort: 8, targetPort: second?.sourcePort ?? 0 });
  for (const socket of sockets.dialled) socket.expire();
  expect(await guest.hear()).toMatchObject([{ op: OP.rst, targetPort: 7 }]);
  expect([deaf.destroyed, heard.destroyed]).toEqual([true, false]);
});

it("ends one direction and goes on with the other", async () => {
  const { guest, stream } = await connected();
  let ended = false;
  stream.on("end", () => {
    ended = true;
  });
  guest.say(OP.rw, {}, text("last"));
  guest.say(OP.shutdown, { flags: SHUTDOWN.send });
  await settle();
  expect([stream.text, ended]).toEqual(["last", true]);
  stream.write("still here");
  expect((await guest.hear()).map(({ data }) => data)).toEqual(["still here"]);
  stream.end();
  expect(await guest.hear()).toMatchObject([{ op: OP.shutdown, flags: SHUTDOWN.send }]);
  guest.say(OP.shutdown, { flags: SHUTDOWN.send | SHUTDOWN.receive });
  expect(await guest.ops()).toEqual([OP.rst]);
});

it("sends no more than the guest has room for, whatever it says of itself", async () => {
  const { guest, stream } = await connected({ bufferSize: 0 });
  stream.write("0123456789");
  expect(await guest.hear()).toEqual([]);
  guest.say(OP.creditUpdate, { bufferSize: 4 });
  expect((await guest.hear()).map(({ data }) => data)).toEqual(["0123"]);
  // It has used more than it ever got: no room at all.
  guest.say(OP.creditUpdate, { bufferSize: 100, forwarded: 5000 });
  expect(await guest.hear()).toEqual([]);
  guest.say(OP.creditUpdate, { bufferSize: 100, forwarded: 4 });
  expect((await guest.hear()).map(({ data }) => data)).toEqual(["456789"]);
  guest.say(OP.creditRequest);
  expect(await guest.ops()).toEqual([OP.creditUpdate]);
});

it("resets a guest that sends more than it may", async () => {
  const { host, sockets } = make();
  sockets.reads = false;
  const guest = new Guest(host);
  guest.buffers(32);
  guest.say(OP.request);
  expect(await guest.ops()).toEqual([OP.response]);
  const piece = new Uint8Array(65536);
  for (let i = 0; i < 6; i++) guest.say(OP.rw, {}, piece);
  expect((await guest.ops()).filter((op) => op === OP.rst).length).toBeGreaterThan(0);
});

const nonsense: readonly (readonly [string, number, Partial<Packet>])[] = [
  ["an operation of no meaning", 99, {}],
  ["a request for what is open", OP.request, {}],
  ["an answer to nothing", OP.response, {}],
];
for (const [what, op, packet] of nonsense)
  it(`resets a connection at ${what}, and the ports may be used again`, async () => {
    const { guest, sockets } = await connected();
    guest.say(op, packet);
    expect(await guest.ops()).toEqual([OP.rst]);
    guest.say(OP.request);
    expect(await guest.ops()).toEqual([OP.response]);
    expect(sockets.accepted.length).toBe(2);
  });

it("refuses what belongs to no connection of this guest", async () => {
  const { guest, stream } = await connected();
  guest.say(OP.rw, { sourcePort: 1 }, text("x"));
  guest.say(OP.rw, { sourceCid: 9 }, text("x"));
  guest.say(OP.rw, { targetCid: 9 }, text("x"));
  guest.say(OP.rw, { type: 2 }, text("x"));
  guest.say(OP.rst, { sourcePort: 1 });
  const answers = await guest.hear();
  expect(answers.map(({ op }) => op)).toEqual([OP.rst, OP.rst, OP.rst, OP.rst]);
  expect(answers[1]).toMatchObject({ targetCid: 9, sourcePort: HOST_PORT, targetPort: GUEST_PORT });
  expect(stream.text).toBe("");
});

it("drops packets whose length is not their own, and says so", async () => {
  const { guest, stream, log } = await connected();
  guest.say(OP.rw, { length: 100 }, text("short"));
  guest.say(OP.rw, { length: 0xffffffff }, text("huge"));
  guest.driver.queue(1).send([new Uint8Array(20)], []);
  expect(await guest.hear()).toEqual([]);
  expect([stream.text, log.length]).toEqual(["", 3]);
  expect(guest.driver.queue(1).allUsed().length).toBe(4);
});

it("gives back buffers that hold no packet, and goes on with the next", async () => {
  const { host, sockets, log } = make();
  const guest = new Guest(host);
  guest.buffers(1);
  guest.say(OP.request);
  expect(await guest.ops()).toEqual([OP.response]);
  guest.driver.queue(0).allUsed();
  const [stream] = sockets.accepted;
  stream?.write("data");
  await settle();
  guest.driver.queue(0).allUsed();
  stream?.write("more");
  await settle();
  guest.buffers(20, HEADER_LENGTH);
  await settle();
  const empty = guest.driver.queue(0).allUsed();
  expect(empty.map(({ length }) => length)).toEqual(Array.from({ length: 20 }, () => 0));
  guest.buffers(1);
  expect((await guest.hear()).map(({ data }) => data)).toEqual(["more"]);
  expect(log.length).toBe(20);
});

it("bounds a flood of connections, also of those that the host does not read", async () => {
  const { host, sockets } = make();
  sockets.reads = false;
  const guest = new Guest(host);
  guest.buffers(200);
  const answers: number[] = [];
  const data = new Uint8Array(60_000);
  for (let port = 1; port <= 1200; port++) {
    const ports = { sourcePort: port };
    guest.say(OP.request, ports);
    guest.driver.queue(1).allUsed();
    if (port % 50 !== 0) continue;
    answers.push(...(await guest.ops()));
    for (let one = port - 49; one <= port; one++) {
      // Every other one is closed at once, with data that nobody takes.
      if (one % 2) continue;
      if (one < 60) guest.say(OP.rw, { sourcePort: one }, data);
      guest.say(OP.rst, { sourcePort: one });
      guest.driver.queue(1).allUsed();
    }
  }
  answers.push(...(await guest.ops()));
  const open = answers.filter((op) => op === OP.response).length;
  expect(open).toBe(sockets.accepted.length);
  expect(open).toBeGreaterThan(600);
  for (let port = 2000; port < 2600; port++) {
    guest.say(OP.request, { sourcePort: port });
    guest.driver.queue(1).allUsed();
    if (port % 50 === 0) await guest.hear();
  }
  const undestroyed = sockets.accepted.filter(({ destroyed }) => !destroyed).length;
  expect(undestroyed).toBeLessThanOrEqual(1024);
});

it("listens no more while its answers wait for buffers", async () => {
  const { host, log } = make();
  const guest = new Guest(host);
  const ring = 256;
  let [said, taken] = [0, 0];
  for (; said - taken < ring && said < 2000; said++) {
    guest.say(OP.rw, { sourcePort: said });
    taken += guest.driver.queue(1).allUsed().length;
  }
  await settle();
  expect([taken, guest.driver.queue(1).allUsed().length]).toEqual([ring, 0]);
  guest.buffers(ring);
  await settle();
  expect(guest.driver.queue(1).allUsed().length).toBe(ring);
  expect(log).toEqual([]);
});

it("tells a restored guest that its connections are gone", async () => {
  const { guest, device, host, stream } = await connected();
  await device.rest();
  const saved = JSON.parse(JSON.stringify(device.save()));
  const other = make();
  other.host.memory.bytes.set(host.memory.bytes);
  other.device.restore(saved);
  checkDevice(other.device);
  device.restore(saved);
  device.wake();
  await settle();
  expect(stream.destroyed).toBe(true);
  guest.say(OP.request);
  expect(await guest.hear()).toEqual([]);
  guest.driver.queue(2).send([], [8]);
  expect(guest.driver.queue(2).used()?.bytes.subarray(0, 4)).toEqual(new Uint8Array(4));
  expect(await guest.ops()).toContain(OP.response);
});
