// Bounds on connections, so that no number of clients that say nothing, or read nothing, keeps the
// daemon from serving the others. At the limit a new connection takes the place of the one that has
// been idle longest; where all are busy it is refused.
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";

export interface ConnectionLimits {
  readonly connections: number;
  /** Milliseconds that a client may leave what it is sent unread. */
  readonly stall: number;
}

export const DEFAULT_LIMITS: ConnectionLimits = { connections: 512, stall: 30_000 };

/** Milliseconds; Node looks after these as often as the last one says. */
export const TIMEOUTS = {
  headersTimeout: 10_000,
  requestTimeout: 60_000,
  keepAliveTimeout: 75_000,
  connectionsCheckingInterval: 1_000,
} as const;

const SWEEP_MS = 1_000;
const BUSY =
  "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n";

interface Held {
  /** Requests being served; a WebSocket is one that never ends. */
  busy: number;
  /** Bytes that the client has taken, and since when it has taken no more. */
  taken: number;
  since: number;
}

export class Connections {
  readonly #limits: ConnectionLimits;
  /** In the order of their last request: the first that is idle has been so longest. */
  readonly #held = new Map<Duplex, Held>();
  readonly #sweep: NodeJS.Timeout;

  constructor(server: Server, limits = DEFAULT_LIMITS) {
    this.#limits = limits;
    server.on("connection", (socket: Socket) => this.#add(socket));
    server.on("secureConnection", (socket: Socket) => this.#add(socket));
    server.on("request", (request, reply) => this.#serve(request, reply));
    server.on("upgrade", ({ socket }: IncomingMessage) => this.#begin(socket));
    this.#sweep = setInterval(() => this.#dropStalled(), SWEEP_MS);
    this.#sweep.unref();
    server.on("close", () => clearInterval(this.#sweep));
  }

  get size(): number {
    return this.#held.size;
  }

  #add(socket: Socket): void {
    if (this.#held.size >= this.#limits.connections && !this.#makeRoom()) {
      socket.on("error", () => {});
      socket.end(BUSY);
      socket.destroySoon();
      return;
    }
    this.#held.set(socket, { busy: 0, taken: 0, since: Date.now() });
    socket.once("close", () => this.#held.delete(socket));
  }

  #makeRoom(): boolean {
    for (const [socket, { busy }] of this.#held) {
      if (busy > 0) continue;
      this.#held.delete(socket);
      socket.destroy();
      return true;
    }
    return false;
  }

  #serve({ socket }: IncomingMessage, reply: ServerResponse): void {
    const held = this.#begin(socket);
    reply.once("close", () => {
      if (held !== undefined) held.busy--;
    });
  }

  #begin(socket: Duplex): Held | undefined {
    const held = this.#held.get(socket);
    if (held === undefined) return undefined;
    held.busy++;
    this.#held.delete(socket);
    this.#held.set(socket, held); // now the last
    return held;
  }

  #dropStalled(): void {
    const now = Date.now();
    for (const [socket, held] of this.#held) {
      const { bytesWritten = 0, writableLength } = socket as Duplex & { bytesWritten?: number };
      const taken = bytesWritten - writableLength;
      if (writableLength === 0 || taken !== held.taken) {
        held.taken = taken;
        held.since = now;
      } else if (now - held.since > this.#limits.stall) socket.destroy();
    }
  }
}
