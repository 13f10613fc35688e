// A Unix socket that anybody with the right to it may connect to. All of them read; whoever
// connected first and is still there writes.
import { rmSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { removeName } from "../own-name.js";
import { type SerialBackend, SerialListeners } from "./backend.js";

/** A reader that lets this much pile up is dropped: it must never hold the guest back. */
const MAX_READER_BACKLOG = 256 * 1024;
const MAX_READERS = 32;
const DROPPED = Buffer.from("\r\n[console: dropped, you read too slowly]\r\n");

/** Left behind by a process that was killed. */
const isStale = (path: string): Promise<boolean> =>
  new Promise((resolve) => {
    const probe = connect(path);
    probe
      .once("connect", () => resolve(false))
      .once("error", (error) => {
        resolve("code" in error && error.code === "ECONNREFUSED");
      });
    probe.once("connect", () => probe.destroy());
  });

export class SocketBackend implements SerialBackend {
  readonly #server: Server;
  readonly #listeners = new SerialListeners();
  /** In the order in which they came: the first is the writer. */
  readonly #clients = new Set<Socket>();
  readonly #path: string;
  #accepting = true;

  private constructor(server: Server, path: string) {
    this.#server = server;
    this.#path = path;
    server.on("connection", (socket) => this.#join(socket));
  }

  /** Listens; a socket file that nobody listens on any more is replaced. */
  static async listen(path: string): Promise<SocketBackend> {
    if (await isStale(path)) rmSync(path, { force: true });
    const server = createServer();
    server.maxConnections = MAX_READERS;
    return new Promise((resolve, reject) => {
      server.once("error", reject);
      server.listen({ path, exclusive: true }, () => {
        server.off("error", reject).on("error", () => {});
        resolve(new SocketBackend(server, path));
      });
    });
  }

  /** Readers that were too slow are told and counted in no loss: others saw everything. */
  readonly lost = 0;

  get clients(): number {
    return this.#clients.size;
  }

  write(bytes: Uint8Array): boolean {
    for (const socket of this.#clients) {
      if (socket.writableLength + bytes.length <= MAX_READER_BACKLOG) socket.write(bytes);
      else this.#drop(socket);
    }
    return true;
  }

  onData(listener: (bytes: Uint8Array) => void): void {
    this.#listeners.data = listener;
  }
  /** Never choked, so never drained. */
  onDrain(): void {}

  accept(on: boolean): void {
    this.#accepting = on;
    const [writer] = this.#clients;
    if (on) writer?.resume();
    else writer?.pause();
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#clients) socket.end();
    this.#clients.clear();
    removeName(this.#path);
  }

  #join(socket: Socket): void {
    this.#clients.add(socket);
    socket.on("data", (bytes) => {
      const [writer] = this.#clients;
      if (writer === socket) this.#listeners.data(new Uint8Array(bytes));
      if (writer === socket && !this.#accepting) socket.pause();
    });
    socket.on("error", () => this.#leave(socket)).on("close", () => this.#leave(socket));
  }

  #leave(socket: Socket): void {
    this.#clients.delete(socket);
    if (this.#accepting) this.accept(true);
  }

  #drop(socket: Socket): void {
    this.#clients.delete(socket);
    socket.end(DROPPED);
    socket.setTimeout(1000, () => socket.destroy());
  }
}
