// Devices for the fuzzer of the transport, each with drivers that know its protocol well enough to lie
// in it: what a subject makes of random numbers is mostly near what is meant.
import { RawBackend } from "../block/raw.js";
import type { FakeHost } from "../fakes.js";
import type { NetBackend } from "../net/backend.js";
import { FakePort } from "../net/fakes.js";
import { PciBus } from "../pci/bus.js";
import { virtioBlk } from "../virtio-blk/model.js";
import { type NetCard, virtioNet } from "../virtio-net/model.js";
import { NET_FEATURE as F } from "../virtio-net/registers.js";
import { FakeVsockHost } from "../virtio-vsock/fakes.js";
import { virtioVsock } from "../virtio-vsock/model.js";
import { HOST_CID, writeHeader } from "../virtio-vsock/registers.js";
import { VirtioPci } from "./pci.js";

export type Random = (below: number) => number;
export const SLOT = 4;

const SETTINGS = {
  name: "fuzzed",
  address: { bus: 0, slot: SLOT, fn: 0 },
  msix: true,
  log: () => {},
} as const;

/** Buffers of one request. */
export interface Request {
  readonly queue: number;
  readonly readable: readonly Uint8Array[];
  readonly writable: readonly number[];
}

export interface Fuzzed {
  readonly device: Pick<
    VirtioPci<unknown>,
    "core" | "save" | "restore" | "rest" | "wake" | "reset"
  >;
  request(random: Random): Request;
  /** What the host's side does meanwhile. */
  disturb(random: Random): void;
  /** Throws where something does not hold. */
  check(): void;
}

export interface Subject {
  readonly name: string;
  /** Taken or not, each by itself. */
  readonly features: readonly number[];
  /** It has no legacy interface. */
  readonly modern?: true;
  make(host: FakeHost): Fuzzed;
}

export const pick = <T>(random: Random, [first, ...rest]: readonly [T, ...T[]]): T =>
  [first, ...rest][random(rest.length + 1)] ?? first;

const noise = (random: Random, length: number): Uint8Array =>
  Uint8Array.from({ length }, () => random(256));

const FD = 3;
const DISK_BYTES = 65536;

const blk: Subject = {
  name: "virtio-blk",
  features: [],
  make(host) {
    host.io.put(FD, new Uint8Array(DISK_BYTES));
    const geometry = { size: DISK_BYTES, logicalSector: 512, physicalSector: 512, readOnly: false };
    const backend = new RawBackend({ file: host.io.file(FD), geometry, clock: host.clock });
    const options = { backend, serial: "x", queues: 2 };
    return {
      device: new VirtioPci(host, new PciBus(host), virtioBlk, options, SETTINGS),
      request: (random) => ({
        queue: random(2),
        readable: [
          Uint8Array.from({ length: 16 }, (_, i) => (i === 0 ? random(14) : 0)),
          new Uint8Array(512 * random(3)),
        ],
        writable: [512 * random(3), 1],
      }),
      disturb: () => {},
      check: () => {},
    };
  },
};

/** A cable that is pulled and plugged again. */
class Cable implements NetBackend {
  readonly kind = "fake";
  readonly detail = "";
  readonly offloads = 15;
  readonly fault = undefined;
  readonly #host: FakeHost;
  #change: () => void = () => {};
  port: FakePort | undefined;

  constructor(host: FakeHost) {
    this.#host = host;
    this.port = new FakePort(host.memory);
  }
  onChange(listener: () => void): void {
    this.#change = listener;
  }
  lost(): void {
    this.port?.close();
    this.port = undefined;
    this.#change();
  }
  plug(): void {
    if (this.port !== undefined) return;
    this.port = new FakePort(this.#host.memory);
    this.#change();
  }
  close(): void {}
}

/** A class, a command, and tables whose lengths are mostly right. */
function controlCommand(random: Random): Uint8Array {
  const count = pick(random, [0, 1, 2, 100, 0xffff_ffff]);
  const entries = noise(random, 6 * (count > 100 ? random(4) : count) + random(2) * random(12));
  const table = Uint8Array.of(count & 255, (count >>> 8) & 255, (count >>> 16) & 255, count >>> 24);
  const head = Uint8Array.of(random(7), random(random(4) ? 3 : 256));
  const body = random(2) ? Buffer.concat([table, entries, table]) : noise(random, random(20));
  return Uint8Array.from(Buffer.concat([head, body]));
}

const net: Subject = {
  name: "virtio-net",
  features: [
    ...[F.checksum, F.guestChecksum, F.guestTso4, F.hostTso4, F.mergeable, F.status],
    ...[F.controlQueue, F.controlRx, F.controlVlan, F.controlMac, F.controlGuestOffloads],
    F.announce,
  ],
  make(host) {
    const cable = new Cable(host);
    let card: NetCard | undefined;
    const made = (one: NetCard): void => {
      card = one;
    };
    const options = { backend: cable, mac: Uint8Array.of(2, 0, 0, 0, 0, 1), link: true, made };
    return {
      device: new VirtioPci(host, new PciBus(host), virtioNet, options, SETTINGS),
      request(random) {
        const queue = random(3);
        const size = pick(random, [0, 9, 12, 60, 1526, random(5000)]);
        if (queue === 0) return { queue, readable: [], writable: [size, random(2) * 100] };
        const readable = queue === 1 ? [noise(random, 12), noise(random, random(200))] : [];
        if (queue === 1) return { queue, readable, writable: [] };
        return { queue, readable: [controlCommand(random)], writable: [random(3)] };
      },
      disturb(random) {
        for (let i = random(4); i > 0; i--) cable.port?.arrive(noise(random, 14 + random(1500)));
        if (random(6) === 0 && cable.port) cable.port.credit = random(3);
        if (random(6) === 0) cable.port?.room(random(100));
        if (random(12) === 0 && cable.port) cable.port.down = "pulled";
        if (random(8) === 0) cable.plug();
        if (random(12) === 0 && card) card.link = !card.link;
      },
      check() {
        if (card?.mac.length !== 6) throw new Error("the card has no address any more");
        if ((cable.port?.posted ?? 0) > 256) throw new Error("more buffers than the ring has");
      },
    };
  },
};

const MOST_STREAMS = 1024;

const vsock: Subject = {
  name: "virtio-vsock",
  features: [0],
  modern: true,
  make(host) {
    const sockets = new FakeVsockHost();
    sockets.closedPorts.add(3);
    const options = { cid: 3, host: sockets };
    return {
      device: new VirtioPci(host, new PciBus(host), virtioVsock, options, SETTINGS),
      request(random) {
        const queue = pick(random, [0, 0, 1, 1, 1, 2]);
        if (queue !== 1)
          return { queue, readable: [], writable: [pick(random, [4096, 45, 44, 8, random(200)])] };
        const data = noise(random, pick(random, [0, 0, 1, random(600)]));
        const header = writeHeader({
          sourceCid: random(20) ? 3 : random(2 ** 31),
          targetCid: random(20) ? HOST_CID : random(2 ** 31),
          sourcePort: random(4),
          targetPort: random(5),
          length: random(10) ? data.length : pick(random, [0xffff_ffff, 2 ** 18, random(700)]),
          type: random(20) ? 1 : random(4),
          op: pick(random, [1, 1, 2, 3, 4, 5, 5, 5, 6, 7, random(65536)]),
          flags: random(5),
          bufferSize: pick(random, [0, 1, 4096, 0xffff_ffff]),
          forwarded: pick(random, [0, random(2000), 0xffff_ffff]),
        });
        return { queue, readable: data.length > 0 ? [header, data] : [header], writable: [] };
      },
      disturb(random) {
        if (random(4) === 0) sockets.dial(random(4)).write(noise(random, random(3000)));
        for (const stream of sockets.accepted) {
          if (random(4) === 0 && !stream.writableEnded) stream.write(noise(random, random(3000)));
          if (random(12) === 0) stream.end();
          if (random(20) === 0) stream.destroy();
        }
      },
      check() {
        const alive = sockets.accepted.filter(({ destroyed }) => !destroyed).length;
        if (alive > MOST_STREAMS) throw new Error(`${alive} streams`);
      },
    };
  },
};

export const SUBJECTS: readonly [Subject, ...Subject[]] = [blk, net, vsock];
