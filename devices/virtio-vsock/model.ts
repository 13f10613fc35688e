// virtio-vsock: VIRTIO 1.2, "Socket Device". Streams between ports of the guest and Unix sockets of the
// host. Nothing of a connection is saved: a restored guest is told that all are gone.
import type { Socket } from "node:net";
import { flag, record, type StateOf } from "../state.js";
import type { Chain } from "../virtio/chain.js";
import {
  type DriverQueue,
  defineVirtioDevice,
  serveAll,
  type VirtioContext,
  type VirtioModel,
} from "../virtio/device.js";
import { BUFFER_SIZE, Connection, type ConnectionEvents } from "./connection.js";
import type { VsockHost } from "./host.js";
import {
  CONFIG_LENGTH,
  EVENT_TRANSPORT_RESET,
  HEADER_LENGTH,
  HOST_CID,
  OP,
  type Packet,
  QUEUE,
  readHeader,
  SHUTDOWN,
  STREAM_FEATURE,
  TYPE_STREAM,
  writeHeader,
} from "./registers.js";

export interface VirtioVsockOptions {
  readonly cid: number;
  readonly host: VsockHost;
}

const QUEUE_SIZE = 256;
const EVENT_SIZE = 4;
/** With those that are closed but not yet rid of what the guest sent. */
const MOST_CONNECTIONS = 1024;
/** Of the guest's buffers in one go, then others have their turn. */
const MOST_AT_ONCE = 256;
/** Answers that wait for the guest's buffers; then it is not listened to until it gives some. */
const MOST_ANSWERS = 256;
const MOST_DATA = 64 * 1024;
/** Ours for connections that the host begins: as Firecracker, far from ports that guests ask for. */
const FIRST_PORT = 2 ** 30;
const LAST_PORT = 2 ** 31 - 1;

const STATE = record({ active: flag });

const keyOf = (guestPort: number, hostPort: number): string => `${guestPort}:${hostPort}`;

class VirtioVsock implements VirtioModel, ConnectionEvents {
  readonly config = new Uint8Array(CONFIG_LENGTH);
  readonly #cid: number;
  readonly #host: VsockHost;
  readonly #context: VirtioContext;
  readonly #connections = new Map<string, Connection>();
  /** Sockets of connections that are gone, while they still take what the guest sent. */
  readonly #lingering = new Set<Socket>();
  /** Connections with something for the guest, in the order of their turns. */
  readonly #ready = new Set<Connection>();
  #answers: Uint8Array[] = [];
  #active = false;
  #resting = true;
  /** The guest must hear that its connections are gone. */
  #resetDue = false;
  #nextPort = FIRST_PORT;

  constructor({ cid, host }: VirtioVsockOptions, context: VirtioContext) {
    this.#cid = cid;
    this.#host = host;
    this.#context = context;
    new DataView(this.config.buffer).setBigUint64(0, BigInt(cid), true);
    host.onConnect((socket, port) => this.#hostConnects(socket, port));
  }

  // --- what the transport calls -----------------------------------------------------------------

  notified(queue: DriverQueue): void {
    if (this.#resting) return;
    if (queue.index === QUEUE.transmit) this.#listen();
    if (queue.index === QUEUE.event) this.#tellReset();
    this.#speak();
  }
  started(): void {
    this.#active = true;
    this.#resting = false;
  }
  reset(): void {
    this.#active = false;
    this.#resetDue = false;
    this.#forget();
  }
  async rest(): Promise<void> {
    this.#resting = true;
  }
  wake(): void {
    this.#resting = false;
  }
  /** Only from a restore in the midst of one: a packet is handled as soon as it is taken. */
  resumed(_queue: DriverQueue, chain: Chain): void {
    chain.done(0);
  }
  save(): StateOf<typeof STATE> {
    return { active: this.#active };
  }
  restore(state: unknown): () => void {
    const { active } = STATE(state, "virtio-vsock");
    return () => {
      this.#forget();
      this.#active = active;
      this.#resetDue = active;
    };
  }
  dispose(): void {
    this.#active = false;
    this.#forget();
    for (const socket of this.#lingering) socket.destroy();
    this.#host.close();
  }

  // --- connections ------------------------------------------------------------------------------

  ready(connection: Connection): void {
    this.#queue(connection);
    this.#speak();
  }
  room(connection: Connection): void {
    this.#answer(connection, OP.creditUpdate);
    this.#speak();
  }
  opened(connection: Connection): void {
    if (connection.state !== "to-host") return;
    this.#answer(connection, OP.response);
    connection.open();
    this.#queue(connection);
    this.#speak();
  }
  failed(connection: Connection): void {
    this.#answer(connection, OP.rst);
    this.#drop(connection, false);
    this.#speak();
  }

  /** Its turn comes when there are buffers. */
  #queue(connection: Connection): void {
    if (connection.state === "open" && connection.hasWord) this.#ready.add(connection);
  }

  #forget(): void {
    for (const connection of this.#connections.values()) connection.close(false);
    this.#connections.clear();
    this.#ready.clear();
    this.#answers = [];
  }

  #drop(connection: Connection, kindly: boolean): void {
    connection.close(kindly);
    this.#linger(connection.socket);
    this.#ready.delete(connection);
    this.#connections.delete(keyOf(connection.guestPort, connection.hostPort));
  }

  #linger(socket: Socket): void {
    if (socket.destroyed) return;
    this.#lingering.add(socket);
    socket.on("close", () => this.#lingering.delete(socket));
  }

  get #full(): boolean {
    return this.#connections.size + this.#lingering.size >= MOST_CONNECTIONS;
  }

  #add(guestPort: number, hostPort: number, socket: Socket, state: "to-host" | "to-guest") {
    const connection = new Connection({ guestPort, hostPort }, socket, state, this);
    this.#connections.set(keyOf(guestPort, hostPort), connection);
    return connection;
  }

  #hostConnects(socket: Socket, port: number): void {
    const hostPort = this.#freePort(port);
    if (!this.#active || this.#resetDue || hostPort === undefined) {
      socket.destroy();
      return;
    }
    this.#answer(this.#add(port, hostPort, socket, "to-guest"), OP.request);
    this.#speak();
  }

  #freePort(guestPort: number): number | undefined {
    if (this.#full) return undefined;
    for (;;) {
      const port = this.#nextPort;
      this.#nextPort = port === LAST_PORT ? FIRST_PORT : port + 1;
      if (!this.#connections.has(keyOf(guestPort, port))) return port;
    }
  }

  // --- from the guest ---------------------------------------------------------------------------

  #listen(): void {
    const queue = this.#context.queues[QUEUE.transmit];
    if (queue === undefined || this.#answers.length >= MOST_ANSWERS) return;
    serveAll(queue, (chain) => this.#heard(chain));
  }

  #heard(chain: Chain): void {
    const header = new Uint8Array(HEADER_LENGTH);
    const whole = chain.read(0, header) === HEADER_LENGTH;
    const packet = readHeader(header);
    const data = Math.min(packet.length, BUFFER_SIZE);
    const fits = whole && packet.length === data && chain.readable.bytes >= HEADER_LENGTH + data;
    const bytes = new Uint8Array(fits && packet.op === OP.rw ? HEADER_LENGTH + data : 0);
    chain.read(0, bytes);
    chain.done(0);
    if (!fits) this.#context.log("a packet whose length is not its own");
    else this.#handle(packet, bytes.subarray(HEADER_LENGTH));
  }

  #handle(packet: Packet, data: Uint8Array): void {
    const { sourcePort, targetPort } = packet;
    const ours = packet.sourceCid === this.#cid && packet.targetCid === HOST_CID;
    const connection = ours ? this.#connections.get(keyOf(sourcePort, targetPort)) : undefined;
    if (!ours || packet.type !== TYPE_STREAM) {
      if (packet.op !== OP.rst) this.#refuse(packet);
    } else if (connection === undefined) this.#handleNew(packet);
    else {
      connection.guestBuffer = packet.bufferSize;
      connection.guestForwarded = packet.forwarded;
      this.#handleKnown(connection, packet, data);
      this.#queue(connection);
    }
  }

  #handleNew(packet: Packet): void {
    if (packet.op === OP.rst) return;
    if (packet.op !== OP.request || this.#full) {
      this.#refuse(packet);
      return;
    }
    const { sourcePort, targetPort, bufferSize, forwarded } = packet;
    const socket = this.#host.connect(targetPort);
    const connection = this.#add(sourcePort, targetPort, socket, "to-host");
    connection.guestBuffer = bufferSize;
    connection.guestForwarded = forwarded;
  }

  #handleKnown(connection: Connection, { op, flags }: Packet, data: Uint8Array): void {
    switch (op) {
      case OP.response:
        if (connection.state === "to-guest") this.#guestAccepts(connection);
        else this.#reset(connection);
        break;
      case OP.rw:
        if (connection.state !== "open" || !connection.give(data)) this.#reset(connection);
        break;
      case OP.shutdown:
        this.#shutDown(connection, flags);
        break;
      case OP.rst:
        this.#drop(connection, true);
        break;
      case OP.creditUpdate:
        break;
      case OP.creditRequest:
        this.#answer(connection, OP.creditUpdate);
        break;
      default:
        this.#reset(connection);
    }
  }

  #guestAccepts(connection: Connection): void {
    connection.socket.write(`OK ${connection.hostPort}\n`);
    connection.open();
  }

  #shutDown(connection: Connection, flags: number): void {
    const both = SHUTDOWN.receive | SHUTDOWN.send;
    if ((flags & both) === both || (flags & SHUTDOWN.send && connection.endTold)) {
      this.#answer(connection, OP.rst);
      this.#drop(connection, true);
      return;
    }
    if (flags & SHUTDOWN.send) connection.endHost();
    if (flags & SHUTDOWN.receive) connection.deafen();
  }

  #reset(connection: Connection): void {
    this.#answer(connection, OP.rst);
    this.#drop(connection, false);
  }

  // --- to the guest -----------------------------------------------------------------------------

  #header(connection: Connection, op: number, length = 0, flags = 0): Uint8Array {
    connection.told = connection.forwarded;
    return writeHeader({
      sourceCid: HOST_CID,
      targetCid: this.#cid,
      sourcePort: connection.hostPort,
      targetPort: connection.guestPort,
      length,
      type: TYPE_STREAM,
      op,
      flags,
      bufferSize: BUFFER_SIZE,
      forwarded: connection.forwarded,
    });
  }

  #answer(connection: Connection, op: number, flags = 0): void {
    if (this.#active) this.#answers.push(this.#header(connection, op, 0, flags));
  }

  /** Of what belongs to no connection. */
  #refuse({ sourceCid, targetCid, sourcePort, targetPort, type }: Packet): void {
    const source = Number.isSafeInteger(targetCid) ? targetCid : HOST_CID;
    const target = Number.isSafeInteger(sourceCid) ? sourceCid : this.#cid;
    const none = { length: 0, op: OP.rst, flags: 0, bufferSize: 0, forwarded: 0 };
    const ports = { sourcePort: targetPort, targetPort: sourcePort };
    this.#answers.push(
      writeHeader({ ...none, ...ports, sourceCid: source, targetCid: target, type }),
    );
  }

  #speak(): void {
    if (!this.#active || this.#resting || this.#resetDue) return;
    const full = this.#answers.length >= MOST_ANSWERS;
    this.#fillBuffers();
    if (full && this.#answers.length < MOST_ANSWERS) this.#context.queues[QUEUE.transmit]?.later();
  }

  #fillBuffers(): void {
    const queue = this.#context.queues[QUEUE.receive];
    for (let left = MOST_AT_ONCE; this.#answers.length > 0 || this.#ready.size > 0; left--) {
      if (left === 0) {
        queue?.later();
        return;
      }
      const chain = queue?.take();
      if (chain === undefined) return;
      // Smaller ones would never get anything on: they go back, and what is to be said waits.
      const holds = chain.writable.bytes > HEADER_LENGTH;
      if (!holds)
        this.#context.log(`a receive buffer of ${chain.writable.bytes} bytes cannot be used`);
      chain.done(holds ? this.#fill(chain) : 0);
    }
  }

  /** Bytes written; answers first, then one packet of each connection in turn. */
  #fill(chain: Chain): number {
    const answer = this.#answers.shift();
    if (answer !== undefined) return chain.write(0, answer);
    for (const connection of this.#ready) {
      this.#ready.delete(connection);
      const written = this.#pass(connection, chain);
      this.#queue(connection);
      if (written > 0) return written;
    }
    return 0;
  }

  #pass(connection: Connection, chain: Chain): number {
    if (connection.hasData) {
      const room = Math.min(chain.writable.bytes - HEADER_LENGTH, MOST_DATA);
      const data = connection.take(room);
      const header = this.#header(connection, OP.rw, data.length);
      return chain.write(0, header) + chain.write(HEADER_LENGTH, data);
    }
    if (!connection.isEnding) return 0;
    connection.endTold = true;
    return chain.write(0, this.#header(connection, OP.shutdown, 0, SHUTDOWN.send));
  }

  #tellReset(): void {
    if (!this.#resetDue) return;
    const chain = this.#context.queues[QUEUE.event]?.take();
    if (chain === undefined) return;
    const event = new Uint8Array(EVENT_SIZE);
    event[0] = EVENT_TRANSPORT_RESET;
    this.#resetDue = false;
    chain.done(chain.write(0, event));
  }
}

export const virtioVsock = defineVirtioDevice({
  name: "virtio-vsock",
  type: 19,
  classCode: 0x078000,
  configLength: CONFIG_LENGTH,
  queues: () => [
    { name: "receive", maxSize: QUEUE_SIZE },
    { name: "transmit", maxSize: QUEUE_SIZE },
    { name: "event", maxSize: 16 },
  ],
  features: () => [STREAM_FEATURE],
  create: (options: VirtioVsockOptions, context: VirtioContext) =>
    new VirtioVsock(options, context),
});
