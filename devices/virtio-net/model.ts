// virtio-net: VIRTIO 1.2, "Network Device", with one pair of queues and a control queue. The rings
// are read here; frames go natively between the port and the driver's buffers, up to 64 at a time.
import type {
  NetCapture,
  NetPort,
  NetStatistics,
  NetStop,
  RunningCapture,
} from "../../native/types.js";
import { type NetBackend, OFFLOAD } from "../net/backend.js";
import { flag, record, type StateOf } from "../state.js";
import type { Chain } from "../virtio/chain.js";
import {
  type DriverQueue,
  defineVirtioDevice,
  serveAll,
  type VirtioContext,
  type VirtioModel,
} from "../virtio/device.js";
import { FEATURE } from "../virtio/specification.js";
import { controlState, MOST_COMMAND, NetControl } from "./control.js";
import { ACK, CONFIG, NET_FEATURE as F, HEADER, QUEUE, STATUS } from "./registers.js";

export interface VirtioNetOptions {
  readonly backend: NetBackend;
  readonly mac: Uint8Array;
  readonly mtu?: number | undefined;
  /** False: the cable is out at first. */
  readonly link: boolean;
  /** Told of the card that is made. */
  readonly made?: (card: NetCard) => void;
}

/** What the API does with a card. */
export interface NetCard {
  readonly mac: Uint8Array;
  readonly backend: NetBackend;
  link: boolean;
  readonly statistics: NetStatistics;
  /** undefined ends it. False: nothing is plugged in, and nothing has been done. */
  capture(capture: NetCapture | undefined): boolean;
}

const QUEUE_SIZE = 256;
const CONTROL_SIZE = 64;
/** Frames in one call; calls in one go, after which others have their turn. */
const BATCH = 64;
const ROUNDS = 4;
/** Buffers are taken from the driver until two of the largest frames would fit. */
const MERGEABLE_BYTES = 2 * (65553 + HEADER.long);
/** Takes no frame: NetFilter's mode bits for no multicast, no unicast, no broadcast. */
const DEAF = {
  mode: 56,
  mac: new Uint8Array(6),
  addresses: new Uint8Array(),
  vlans: new Uint8Array(),
};

/** The feature bits of one side for each offload. */
const HOST_FEATURES: readonly (readonly [offload: number, feature: number])[] = [
  [OFFLOAD.checksum, F.checksum],
  [OFFLOAD.tcp4, F.hostTso4],
  [OFFLOAD.tcp6, F.hostTso6],
  [OFFLOAD.ecn, F.hostEcn],
  [OFFLOAD.udp, F.hostUfo],
];
const GUEST_FEATURES: readonly (readonly [offload: number, feature: number])[] = [
  [OFFLOAD.checksum, F.guestChecksum],
  [OFFLOAD.tcp4, F.guestTso4],
  [OFFLOAD.tcp6, F.guestTso6],
  [OFFLOAD.ecn, F.guestEcn],
  [OFFLOAD.udp, F.guestUfo],
];

const NO_COUNTS: NetStatistics = {
  sent: 0,
  sentBytes: 0,
  sendDropped: 0,
  received: 0,
  receivedBytes: 0,
  receiveDropped: 0,
  filtered: 0,
};

type CaptureCounts = Pick<NetStatistics, "capturedFrames" | "capturedBytes" | "captureEnded">;

const STATE = record({ active: flag, link: flag, control: controlState });

class VirtioNet implements VirtioModel, NetCard {
  readonly config = new Uint8Array(CONFIG.length);
  readonly backend: NetBackend;
  readonly #context: VirtioContext;
  readonly #control: NetControl;
  readonly #frames = new Uint32Array(2 * BATCH);
  readonly #receiving: DriverQueue;
  readonly #transmitting: DriverQueue;
  #port: NetPort | undefined;
  /** Of ports that are gone. */
  #past = NO_COUNTS;
  #unplugged = 0;
  /** While there is no port: what the last one captured, and how far it had come. */
  #capturing: RunningCapture | undefined;
  #captured: CaptureCounts = {};
  #link: boolean;
  /** The driver is ready, and the device not at rest. */
  #active = false;
  #resting = true;
  #starved = false;
  /** Something sent waits for the descriptor. */
  #waiting = false;
  #again = false;
  #announceDue = false;
  #posted: Chain[] = [];
  #postedBytes = 0;
  #sending: Chain[] = [];

  constructor(options: VirtioNetOptions, context: VirtioContext) {
    const { backend, mac, mtu, link } = options;
    this.backend = backend;
    this.#context = context;
    this.#link = link;
    const [receiving, transmitting] = context.queues;
    if (!receiving || !transmitting) throw new Error("virtio-net has two queues");
    this.#receiving = receiving;
    this.#transmitting = transmitting;
    this.#control = new NetControl(mac, {
      filterChanged: () => this.#applyFilter(),
      macChanged: () => this.config.set(this.#control.mac, CONFIG.mac),
      setOffloads: (features) => this.#setOffloads(features),
      announced: () => this.#setStatus(STATUS.announce, false),
    });
    const view = new DataView(this.config.buffer);
    view.setUint16(CONFIG.pairs, 1, true);
    view.setUint16(CONFIG.mtu, mtu ?? 0, true);
    this.config.set(mac, CONFIG.mac);
    this.#showLink();
    backend.onChange(() => this.#plugged());
    this.#plugged();
    options.made?.(this);
  }

  // --- what the transport calls -----------------------------------------------------------------

  notified(queue: DriverQueue): void {
    if (this.#resting) return;
    if (queue.index === QUEUE.transmit) this.#transmit();
    else if (queue.index === QUEUE.receive) this.#refilled();
    else serveAll(queue, (chain) => this.#serveControl(chain));
  }
  resumed(queue: DriverQueue, chain: Chain): void {
    if (queue.index === QUEUE.receive) this.#post([chain]);
    else if (queue.index === QUEUE.transmit) this.#sending.push(chain);
    else this.#serveControl(chain);
  }
  started(): void {
    this.#active = true;
    this.#resting = false;
    this.#control.accepts = this.#negotiated(GUEST_FEATURES);
    this.#agree();
    this.#control.start(this.#context.has(F.controlVlan));
    this.#refilled();
  }
  reset(): void {
    this.#active = false;
    this.#starved = false;
    this.#sending = [];
    this.#forget();
    this.#setStatus(STATUS.announce, false);
    this.#control.reset();
    this.#watch();
  }
  async rest(): Promise<void> {
    this.#resting = true;
    this.#watch();
  }
  wake(): void {
    this.#resting = false;
    this.#agree();
    this.#applyFilter();
    this.#showLink();
    // Restored: whoever is on the network now should learn where this address is.
    if (this.#announceDue && this.#context.has(F.announce)) this.#setStatus(STATUS.announce, true);
    this.#announceDue = false;
    this.#watch();
  }
  /** The legacy interface: the driver may choose its address. */
  writeConfig(offset: number, bytes: Uint8Array): void {
    if (this.#context.has(FEATURE.version1) || offset + bytes.length > CONFIG.status) return;
    this.config.set(bytes, offset);
    this.#control.mac = this.config.slice(CONFIG.mac, CONFIG.status);
  }
  save(): StateOf<typeof STATE> {
    return { active: this.#active, link: this.#link, control: this.#control.save() };
  }
  restore(state: unknown): () => void {
    const { active, link, control } = STATE(state, "virtio-net");
    return () => {
      this.#active = active;
      this.#link = link;
      this.#control.restore(control);
      this.#announceDue = active;
      this.#applyFilter();
    };
  }
  dispose(): void {
    this.#active = false;
    this.#port = undefined;
    this.backend.close();
  }

  // --- what the API calls -----------------------------------------------------------------------

  get mac(): Uint8Array {
    return this.#control.mac;
  }
  get link(): boolean {
    return this.#link;
  }
  set link(up: boolean) {
    this.#link = up;
    this.#applyFilter();
    this.#showLink();
  }
  get statistics(): NetStatistics {
    const now = this.#port?.statistics() ?? { ...NO_COUNTS, ...this.#captured };
    const sum = added(this.#past, now);
    return { ...now, ...sum, sendDropped: sum.sendDropped + this.#unplugged };
  }
  capture(capture: NetCapture | undefined): boolean {
    this.#port?.capture(capture);
    this.#capturing = undefined;
    this.#captured = {};
    return this.#port !== undefined;
  }

  // --- the cable --------------------------------------------------------------------------------

  #plugged(): void {
    this.#port = this.backend.port;
    this.#goOnCapturing();
    this.#waiting = false;
    this.#starved = false;
    this.#port?.listen((readable, writable) => this.#ready(readable, writable));
    this.#agree();
    this.#applyFilter();
    this.#repost();
    this.#watch();
    this.#showLink();
  }

  #lost(): void {
    const port = this.#port;
    if (port === undefined) return;
    const { capturedFrames, capturedBytes, captureEnded, ...counts } = port.statistics();
    this.#past = added(this.#past, counts);
    this.#capturing = port.takeCapture();
    if (this.#capturing)
      this.#captured = {
        ...(capturedFrames !== undefined && { capturedFrames }),
        ...(capturedBytes !== undefined && { capturedBytes }),
        ...(captureEnded !== undefined && { captureEnded }),
      };
    this.#port = undefined;
    this.backend.lost(port.fault());
  }

  /** The file is one, however often the cable was out. */
  #goOnCapturing(): void {
    if (this.#port === undefined || this.#capturing === undefined) return;
    this.#port.continueCapture(this.#capturing);
    this.#capturing = undefined;
    this.#captured = {};
  }

  #showLink(): void {
    this.#setStatus(STATUS.linkUp, this.#link && this.#port !== undefined);
  }

  #setStatus(bit: number, on: boolean): void {
    const before = this.config[CONFIG.status] ?? 0;
    const now = on ? before | bit : before & ~bit;
    this.config[CONFIG.status] = now;
    if (now !== before && this.#active) this.#context.configChanged();
  }

  #agree(): void {
    const mergeable = this.#context.has(F.mergeable);
    const long = mergeable || this.#context.has(FEATURE.version1);
    this.#port?.agree({
      header: long ? HEADER.long : HEADER.short,
      mergeable,
      checksums: this.#context.has(F.checksum),
      accepts: this.#control.accepts,
    });
  }

  /** With the cable out, what still arrives is read and thrown away: it must not arrive later. */
  #applyFilter(): void {
    this.#port?.filter(this.#link ? this.#control.filter : DEAF);
  }

  #negotiated(table: typeof GUEST_FEATURES): number {
    return table.reduce((all, [bit, feature]) => all | (this.#context.has(feature) ? bit : 0), 0);
  }

  /** "Offloads State Configuration" */
  #setOffloads(features: bigint): boolean {
    const allowed = this.#negotiated(GUEST_FEATURES);
    let wanted = 0;
    for (const [bit, feature] of GUEST_FEATURES)
      if ((features >> BigInt(feature)) & 1n) wanted |= bit;
    if (wanted & ~allowed) return false;
    this.#control.accepts = wanted;
    this.#agree();
    return true;
  }

  #watch(): void {
    const on = this.#active && !this.#resting;
    this.#port?.watch(on && !this.#starved, on && this.#waiting);
  }

  #ready(readable: boolean, writable: boolean): void {
    if (!this.#active || this.#resting) return;
    if (writable) {
      this.#waiting = this.#port?.flush() ?? false;
      this.#watch();
      this.#transmit();
    }
    if (readable) this.#receive();
  }

  // --- from the guest ---------------------------------------------------------------------------

  #transmit(): void {
    for (let round = 0; round < ROUNDS; round++) {
      this.#takeToSend();
      const taken = this.#sending.length;
      if (taken === 0) break;
      this.#send();
      if (this.#sending.length > 0) return; // until the descriptor is writable
      if (taken < BATCH) break;
      if (round === ROUNDS - 1) this.#transmitting.later();
    }
    // An answer may be there already: that spares a turn of the event loop.
    if (!this.#starved) this.#receive();
  }

  #takeToSend(): void {
    while (this.#sending.length < BATCH) {
      const chain = this.#transmitting.take();
      if (chain === undefined) return;
      this.#sending.push(chain);
    }
  }

  #send(): void {
    const port = this.#link ? this.#port : undefined;
    if (port === undefined) {
      this.#unplugged += this.#sending.length;
      this.#sent(this.#sending.length);
      return;
    }
    const { count, stop } = port.send(this.#sending.map(({ readable }) => readable.flat));
    this.#sent(count);
    if (stop === "down") this.#lost();
    if (stop !== "limit") return;
    this.#waiting = true;
    this.#watch();
  }

  #sent(count: number): void {
    for (const chain of this.#sending.splice(0, count)) chain.done(0);
  }

  // --- to the guest -----------------------------------------------------------------------------

  /** The driver has given buffers. */
  #refilled(): void {
    if (!this.#starved && this.#posted.length > 0) return;
    this.#starved = false;
    this.#receive();
    this.#watch();
  }

  #receive(): void {
    const port = this.#port;
    if (port === undefined || !this.#active || this.#resting) return;
    for (let round = 0; round < ROUNDS; round++) {
      const fresh = this.#refill();
      const whole = this.#posted.length >= this.#receiving.size;
      const { count, stop } = port.receive(this.#frames, whole);
      for (let i = 0; i < count; i++)
        this.#received(this.#frames[2 * i] ?? 0, this.#frames[2 * i + 1] ?? 0);
      if (!this.#goesOn(stop, count + fresh)) return;
    }
    this.#receiveAgain();
  }

  /** False: nothing more to do now. */
  #goesOn(stop: NetStop, progress: number): boolean {
    if (stop === "limit") return true;
    if (stop === "down") this.#lost();
    if (stop === "starved") {
      if (progress > 0) return true;
      this.#starved = true;
      this.#watch();
    }
    return false;
  }

  /** Frames that a port holds itself do not make its descriptor readable. */
  #receiveAgain(): void {
    if (this.#again) return;
    this.#again = true;
    setImmediate(() => {
      this.#again = false;
      this.#receive();
    });
  }

  /** How many buffers the driver gave. */
  #refill(): number {
    const mergeable = this.#context.has(F.mergeable);
    const chains: Chain[] = [];
    let bytes = this.#postedBytes;
    const enough = (): boolean =>
      mergeable ? bytes >= MERGEABLE_BYTES : this.#posted.length + chains.length >= BATCH;
    while (!enough()) {
      const chain = this.#receiving.take();
      if (chain === undefined) break;
      bytes += chain.writable.bytes;
      chains.push(chain);
    }
    return chains.length > 0 ? this.#post(chains) : 0;
  }

  /** Those that cannot hold a header, or are in too many pieces, go back as they are. */
  #post(chains: readonly Chain[]): number {
    let rest = chains;
    while (rest.length > 0) {
      const good = this.#port?.post(rest.map(({ writable }) => writable.flat)) ?? rest.length;
      for (const chain of rest.slice(0, good)) {
        this.#posted.push(chain);
        this.#postedBytes += chain.writable.bytes;
      }
      const bad = rest[good];
      if (bad !== undefined) {
        this.#context.log(`a receive buffer of ${bad.writable.bytes} bytes cannot be used`);
        bad.done(0);
      }
      rest = rest.slice(good + 1);
    }
    return chains.length;
  }

  /** Into a new port what the old one had. */
  #repost(): void {
    const chains = this.#posted;
    this.#posted = [];
    this.#postedBytes = 0;
    this.#post(chains);
  }

  #received(chains: number, bytes: number): void {
    let left = bytes;
    for (const chain of this.#posted.splice(0, chains)) {
      const written = Math.min(left, chain.writable.bytes);
      this.#postedBytes -= chain.writable.bytes;
      left -= written;
      chain.done(written);
    }
  }

  #forget(): void {
    this.#port?.clear();
    this.#posted = [];
    this.#postedBytes = 0;
  }

  #serveControl(chain: Chain): void {
    const command = new Uint8Array(Math.min(chain.readable.bytes, MOST_COMMAND));
    chain.read(0, command);
    const answered = chain.writable.bytes > 0 && chain.readable.bytes <= MOST_COMMAND;
    const good = answered && this.#control.command(command);
    chain.done(chain.write(0, Uint8Array.of(good ? ACK.ok : ACK.error)));
  }
}

const added = (a: NetStatistics, b: NetStatistics): NetStatistics => ({
  sent: a.sent + b.sent,
  sentBytes: a.sentBytes + b.sentBytes,
  sendDropped: a.sendDropped + b.sendDropped,
  received: a.received + b.received,
  receivedBytes: a.receivedBytes + b.receivedBytes,
  receiveDropped: a.receiveDropped + b.receiveDropped,
  filtered: a.filtered + b.filtered,
});

const offered = (table: typeof HOST_FEATURES, offloads: number): number[] =>
  table.filter(([bit]) => offloads & bit).map(([, feature]) => feature);

export const virtioNet = defineVirtioDevice({
  name: "virtio-net",
  type: 1,
  transitional: 0x1000,
  classCode: 0x020000,
  configLength: CONFIG.length,
  queues: () => [
    { name: "receive", maxSize: QUEUE_SIZE },
    { name: "transmit", maxSize: QUEUE_SIZE },
    { name: "control", maxSize: CONTROL_SIZE },
  ],
  features: ({ backend, mtu }: VirtioNetOptions) => [
    ...offered(HOST_FEATURES, backend.offloads),
    ...offered(GUEST_FEATURES, backend.offloads),
    ...(mtu === undefined ? [] : [F.mtu]),
    F.controlGuestOffloads,
    F.mac,
    F.mergeable,
    F.status,
    F.controlQueue,
    F.controlRx,
    F.controlVlan,
    F.controlRxExtra,
    F.announce,
    F.controlMac,
  ],
  create: (options: VirtioNetOptions, context: VirtioContext) => new VirtioNet(options, context),
});
