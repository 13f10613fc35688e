// The host's side of guest sockets, by Firecracker's convention: who connects to the Unix socket PATH
// writes `CONNECT port\n` and reads `OK port\n`; guests reach what listens on PATH_port.
import { rmSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { removeName } from "../own-name.js";

const HANDSHAKE_MS = 10_000;
/** "CONNECT 4294967295\n" */
const MOST_HANDSHAKE = 32;
const MOST_SHAKING = 64;

export interface VsockHost {
  /** Who asks for a port of the guest's; refused by destroying the socket. */
  onConnect(listener: (socket: Socket, port: number) => void): void;
  /** To what listens on the host; the socket says how it went. */
  connect(port: number): Socket;
  close(): void;
}

export class UnixVsockHost implements VsockHost {
  readonly #path: string;
  readonly #server: Server;
  readonly #shaking = new Set<Socket>();
  #listener: (socket: Socket, port: number) => void = (socket) => socket.destroy();

  private constructor(path: string) {
    this.#path = path;
    this.#server = createServer({ allowHalfOpen: true }, (socket) => this.#greet(socket));
  }

  /** Rejects with a system error; a socket that nobody listens on any more is taken over. */
  static async listen(path: string): Promise<UnixVsockHost> {
    const host = new UnixVsockHost(path);
    await host.#listen().catch(async (error: NodeJS.ErrnoException) => {
      if (error.code !== "EADDRINUSE" || !(await isAbandoned(path))) throw error;
      rmSync(path);
      await host.#listen();
    });
    return host;
  }

  onConnect(listener: (socket: Socket, port: number) => void): void {
    this.#listener = listener;
  }
  connect(port: number): Socket {
    return connect({ path: `${this.#path}_${port}`, allowHalfOpen: true });
  }
  close(): void {
    this.#server.close();
    for (const socket of this.#shaking) socket.destroy();
    removeName(this.#path);
  }

  #listen(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(this.#path, () => {
        this.#server.off("error", reject);
        // Later ones (no descriptors left) cost a connection, not the VM.
        this.#server.on("error", () => {});
        resolve();
      });
    });
  }

  #greet(socket: Socket): void {
    socket.on("error", () => socket.destroy());
    if (this.#shaking.size >= MOST_SHAKING) {
      socket.destroy();
      return;
    }
    this.#shaking.add(socket);
    socket.on("close", () => this.#shaking.delete(socket));
    const timer = setTimeout(() => socket.destroy(), HANDSHAKE_MS);
    let said = Buffer.alloc(0);
    const hear = (data: Buffer): void => {
      said = Buffer.concat([said, data]);
      const end = said.indexOf(0x0a);
      if (end < 0 && said.length <= MOST_HANDSHAKE) return;
      clearTimeout(timer);
      socket.off("data", hear);
      this.#shaking.delete(socket);
      this.#heard(socket, said, end);
    };
    socket.on("data", hear);
    socket.on("close", () => clearTimeout(timer));
  }

  #heard(socket: Socket, said: Buffer, end: number): void {
    const [, digits] = /^CONNECT ([0-9]{1,10})\r?$/.exec(said.toString("latin1", 0, end)) ?? [];
    const port = Number(digits);
    if (digits === undefined || port > 0xffffffff) {
      socket.destroy();
      return;
    }
    socket.pause();
    if (end + 1 < said.length) socket.unshift(said.subarray(end + 1));
    this.#listener(socket, port);
  }
}

const isAbandoned = (path: string): Promise<boolean> =>
  new Promise((resolve) => {
    const probe = connect(path, () => {
      probe.destroy();
      resolve(false);
    });
    probe.on("error", (error: NodeJS.ErrnoException) => resolve(error.code === "ECONNREFUSED"));
  });
