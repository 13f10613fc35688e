// The host's side of guest sockets for tests: streams in memory, accepted or refused by port.
import type { Socket } from "node:net";
import { Duplex } from "node:stream";
import type { VsockHost } from "./host.js";

/** One end of a stream; what is not read at the other end stays in this one. */
export class FakeSocket extends Duplex {
  /** What the other end has got. */
  readonly heard: Buffer[] = [];
  #other: FakeSocket | undefined;
  #blocked: (() => void) | undefined;
  #expired: (() => void) | undefined;

  constructor() {
    super({ allowHalfOpen: true, emitClose: true });
    this.on("error", () => {});
  }
  static pair(): [FakeSocket, FakeSocket] {
    const [one, other] = [new FakeSocket(), new FakeSocket()];
    one.#other = other;
    other.#other = one;
    return [one, other];
  }

  /** All that this end has got so far. */
  get text(): string {
    return Buffer.concat(this.heard).toString("latin1");
  }
  /** Reads whatever comes. */
  listen(): this {
    return this.on("data", (data: Buffer) => this.heard.push(data));
  }
  setTimeout(ms: number, expired?: () => void): this {
    this.#expired = ms > 0 ? expired : undefined;
    return this;
  }
  /** The time that was set is over. */
  expire(): void {
    this.#expired?.();
  }

  /** The other end has room again. */
  unblock(): void {
    const go = this.#blocked;
    this.#blocked = undefined;
    go?.();
  }

  override _read(): void {
    this.#other?.unblock();
  }
  override _write(chunk: Buffer, _: string, done: (error?: Error | null) => void): void {
    const other = this.#other;
    if (other === undefined || other.destroyed) done(new Error("EPIPE"));
    else if (other.push(chunk)) done();
    else this.#blocked = done;
  }
  override _final(done: (error?: Error | null) => void): void {
    this.#other?.push(null);
    done();
  }
  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    const other = this.#other;
    if (other !== undefined && !other.destroyed && !other.readableEnded)
      setImmediate(() => other.destroy(new Error("ECONNRESET")));
    done(error);
  }
}

const asSocket = (socket: FakeSocket): Socket => socket as unknown as Socket;

export class FakeVsockHost implements VsockHost {
  /** The test's ends of what the guest connected to, in order. */
  readonly accepted: FakeSocket[] = [];
  readonly ports: number[] = [];
  /** The device's ends of what the test has dialled. */
  readonly dialled: FakeSocket[] = [];
  /** Ports that nobody listens on. */
  readonly closedPorts = new Set<number>();
  /** The test's ends are read as data comes. */
  reads = true;
  closed = false;
  #listener: (socket: Socket, port: number) => void = () => {};

  onConnect(listener: (socket: Socket, port: number) => void): void {
    this.#listener = listener;
  }
  connect(port: number): Socket {
    const [device, test] = FakeSocket.pair();
    this.ports.push(port);
    if (this.closedPorts.has(port)) setImmediate(() => device.destroy(new Error("ECONNREFUSED")));
    else {
      this.accepted.push(this.reads ? test.listen() : test);
      setImmediate(() => device.emit("connect"));
    }
    return asSocket(device);
  }
  /** A program of the host asks for a port of the guest's. */
  dial(port: number): FakeSocket {
    const [device, test] = FakeSocket.pair();
    this.dialled.push(device);
    this.#listener(asSocket(device), port);
    return test.listen();
  }
  close(): void {
    this.closed = true;
  }
}
