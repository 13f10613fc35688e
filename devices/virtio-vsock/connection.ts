// One stream between a guest's port and a Unix socket of the host, with the credit of both sides:
// VIRTIO 1.2, "Buffer Space Management". Neither side can make the other keep more than it said.
import type { Socket } from "node:net";

/** What we keep for the host's side of a connection. */
export const BUFFER_SIZE = 256 * 1024;
/** Of what the host sent and the guest has no credit or buffers for. */
const MOST_PENDING = 256 * 1024;

/** Without progress; then what a closed connection still had is lost. */
const LINGER_MS = 30_000;

/** For the guest to answer who asks for a port of its own; a paused stream does not tell of its end. */
const ANSWER_MS = 30_000;

export type ConnectionState = "to-host" | "to-guest" | "open" | "closed";

export interface ConnectionEvents {
  /** There is something for the guest: data, or an end. */
  ready(connection: Connection): void;
  /** Half of our room is free again and the guest does not know. */
  room(connection: Connection): void;
  /** The host's side is there (to-host), or broke. */
  opened(connection: Connection): void;
  failed(connection: Connection): void;
}

export class Connection {
  readonly guestPort: number;
  readonly hostPort: number;
  readonly socket: Socket;
  state: ConnectionState;
  /** The guest's room, and how much of what it got it has used: counters modulo 2^32. */
  guestBuffer = 0;
  guestForwarded = 0;
  sent = 0;
  /** What the guest has sent, and the host's socket has taken. */
  received = 0;
  forwarded = 0;
  /** The value of `forwarded` that the guest knows. */
  told = 0;
  /** The host sends no more, and the guest has been told. */
  endTold = false;
  #ended = false;
  #pending: Buffer[] = [];
  #pendingBytes = 0;
  readonly #events: ConnectionEvents;

  constructor(
    ports: { readonly guestPort: number; readonly hostPort: number },
    socket: Socket,
    state: "to-host" | "to-guest",
    events: ConnectionEvents,
  ) {
    this.guestPort = ports.guestPort;
    this.hostPort = ports.hostPort;
    this.socket = socket;
    this.state = state;
    this.#events = events;
    socket.on("connect", () => events.opened(this));
    socket.on("error", () => this.#failed());
    // Both directions at their end: what the guest has not taken yet is still for it.
    socket.on("close", () => this.#ended || this.#failed());
    socket.on("data", (data: Buffer) => this.#heard(data));
    socket.on("end", () => {
      this.#ended = true;
      events.ready(this);
    });
    socket.pause();
    if (state === "to-guest") socket.setTimeout(ANSWER_MS, () => this.#failed());
  }

  /** Both sides are there. */
  open(): void {
    this.state = "open";
    this.socket.setTimeout(0);
    this.socket.resume();
  }

  get credit(): number {
    const inFlight = (this.sent - this.guestForwarded) >>> 0;
    return Math.max(0, this.guestBuffer - inFlight);
  }
  get hasData(): boolean {
    return this.#pendingBytes > 0 && this.credit > 0;
  }
  get hasWord(): boolean {
    return this.hasData || this.isEnding;
  }
  /** Everything that the host sent has been passed on, and it sends no more. */
  get isEnding(): boolean {
    return this.#ended && this.#pendingBytes === 0 && !this.endTold;
  }

  /** At most `most` bytes, within the guest's credit. */
  take(most: number): Uint8Array {
    const length = Math.min(most, this.credit, this.#pendingBytes);
    const all = this.#pending.length === 1 ? this.#pending[0] : Buffer.concat(this.#pending);
    if (all === undefined) return new Uint8Array(0);
    const rest = all.subarray(length);
    this.#pending = rest.length > 0 ? [rest] : [];
    this.#pendingBytes = rest.length;
    this.sent = (this.sent + length) >>> 0;
    if (this.state === "open" && this.#pendingBytes < MOST_PENDING) this.socket.resume();
    return all.subarray(0, length);
  }

  /** From the guest; false where it sent more than it may. */
  give(bytes: Uint8Array): boolean {
    this.received = (this.received + bytes.length) >>> 0;
    if ((this.received - this.forwarded) >>> 0 > BUFFER_SIZE) return false;
    this.socket.write(bytes, () => this.#gone(bytes.length));
    return true;
  }

  /** The guest sends no more. */
  endHost(): void {
    this.socket.end();
  }
  /** The guest takes no more. */
  deafen(): void {
    this.#pending = [];
    this.#pendingBytes = 0;
    this.socket.removeAllListeners("data");
    this.socket.resume();
  }
  /** Kindly: what the guest has sent still goes out, while whoever should read it does. */
  close(kindly: boolean): void {
    if (this.state === "closed") return;
    this.state = "closed";
    this.#pending = [];
    this.#pendingBytes = 0;
    if (!kindly) {
      this.socket.destroy();
      return;
    }
    this.socket.setTimeout(LINGER_MS, () => this.socket.destroy());
    this.socket.end(() => this.socket.destroy());
  }

  #heard(data: Buffer): void {
    if (this.state === "closed") return;
    this.#pending.push(data);
    this.#pendingBytes += data.length;
    if (this.#pendingBytes >= MOST_PENDING) this.socket.pause();
    this.#events.ready(this);
  }

  #gone(bytes: number): void {
    this.forwarded = (this.forwarded + bytes) >>> 0;
    if (this.state === "open" && (this.forwarded - this.told) >>> 0 >= BUFFER_SIZE / 2)
      this.#events.room(this);
  }

  #failed(): void {
    if (this.state !== "closed") this.#events.failed(this);
  }
}
