// A network for tests: frames in and out of guest memory by the rules of NetPort, without a host.
import type {
  GuestMemory,
  HostNet,
  NetAgreement,
  NetCapture,
  NetFilter,
  NetFrames,
  NetPort,
  NetStatistics,
  RunningCapture,
} from "../../native/types.js";

const NONE: NetStatistics = {
  sent: 0,
  sentBytes: 0,
  sendDropped: 0,
  received: 0,
  receivedBytes: 0,
  receiveDropped: 0,
  filtered: 0,
};

export class FakePort implements NetPort {
  offloads = 15;
  /** What the guest sent: headers and frames. */
  readonly sent: Uint8Array[] = [];
  /** How many more frames are taken until room() makes it more; the rest waits. */
  credit = Number.POSITIVE_INFINITY;
  agreement: NetAgreement = { header: 12, mergeable: false, checksums: false, accepts: 0 };
  filtered: NetFilter | undefined;
  watched = { readable: false, writable: false };
  captured: NetCapture | undefined;
  closed = false;
  down = "";
  /** Native calls, to see that there is not one for each frame. */
  calls = 0;
  readonly #memory: GuestMemory;
  readonly #waiting: Uint8Array[] = [];
  #posted: (readonly number[])[] = [];
  #ready: (readable: boolean, writable: boolean) => void = () => {};

  constructor(memory: GuestMemory) {
    this.#memory = memory;
  }

  /** Frames arrive, and the descriptor is readable. */
  arrive(...frames: readonly Uint8Array[]): void {
    this.#waiting.push(...frames);
    if (this.watched.readable) this.#ready(true, false);
  }
  /** The descriptor is writable. */
  room(frames: number): void {
    this.credit += frames;
    if (this.watched.writable) this.#ready(false, true);
  }
  get posted(): number {
    return this.#posted.length;
  }
  get undelivered(): number {
    return this.#waiting.length;
  }

  listen(ready: (readable: boolean, writable: boolean) => void): void {
    this.#ready = ready;
  }
  watch(readable: boolean, writable: boolean): void {
    this.watched = { readable, writable };
  }
  agree(agreement: NetAgreement): void {
    this.agreement = agreement;
  }
  filter(filter: NetFilter): void {
    this.filtered = filter;
  }
  post(chains: readonly (readonly number[])[]): number {
    const good = chains.findIndex((pieces) => bytesOf(pieces) < this.agreement.header);
    const count = good < 0 ? chains.length : good;
    this.#posted.push(...chains.slice(0, count));
    return count;
  }
  clear(): void {
    this.#posted = [];
  }
  receive(into: Uint32Array, wholeRing: boolean): NetFrames {
    this.calls++;
    if (this.down !== "") return { count: 0, stop: "down" };
    for (let count = 0; count < into.length / 2; count++) {
      if (this.#posted.length === 0) return { count, stop: "starved" };
      const frame = this.#waiting[0];
      if (frame === undefined) return { count, stop: "empty" };
      const bytes = this.agreement.header + frame.length;
      const chains = this.#chainsFor(bytes);
      if (chains === undefined && this.agreement.mergeable && !wholeRing)
        return { count, stop: "starved" };
      this.#waiting.shift();
      if (chains === undefined) count--;
      else into.set([this.#deliver(frame, chains), bytes], 2 * count);
    }
    return { count: into.length / 2, stop: "limit" };
  }
  send(chains: readonly (readonly number[])[]): NetFrames {
    this.calls++;
    if (this.down !== "") return { count: chains.length, stop: "down" };
    const count = Math.min(chains.length, this.credit);
    this.credit -= count;
    for (const pieces of chains.slice(0, count)) this.sent.push(this.#gather(pieces));
    return { count, stop: count < chains.length ? "limit" : "empty" };
  }
  flush(): boolean {
    return false;
  }
  fault(): string {
    return this.down;
  }
  capture(capture: NetCapture | undefined): void {
    this.captured = capture;
  }
  takeCapture(): RunningCapture | undefined {
    const { captured } = this;
    this.captured = undefined;
    return captured;
  }
  continueCapture(running: RunningCapture): void {
    this.captured = running as NetCapture;
  }
  statistics(): NetStatistics {
    const captured = this.captured && { capturedFrames: this.sent.length, capturedBytes: 0 };
    return { ...NONE, sent: this.sent.length, ...captured };
  }
  close(): void {
    this.closed = true;
    this.watched = { readable: false, writable: false };
  }

  #chainsFor(bytes: number): number | undefined {
    let room = 0;
    for (const [index, pieces] of this.#posted.entries()) {
      room += bytesOf(pieces);
      if (room >= bytes) return index + 1;
      if (!this.agreement.mergeable) return undefined;
    }
    return undefined;
  }
  #deliver(frame: Uint8Array, chains: number): number {
    const { header } = this.agreement;
    const whole = new Uint8Array(header + frame.length);
    if (header === 12) whole[10] = chains;
    whole.set(frame, header);
    let at = 0;
    for (const pieces of this.#posted.splice(0, chains))
      for (let i = 0; i < pieces.length && at < whole.length; i += 2) {
        const part = whole.subarray(at, at + (pieces[i + 1] ?? 0));
        this.#memory.write(pieces[i] ?? 0, part);
        at += part.length;
      }
    return chains;
  }
  #gather(pieces: readonly number[]): Uint8Array {
    const out = new Uint8Array(bytesOf(pieces));
    let at = 0;
    for (let i = 0; i < pieces.length; i += 2) {
      const length = pieces[i + 1] ?? 0;
      this.#memory.read(pieces[i] ?? 0, out.subarray(at, at + length));
      at += length;
    }
    return out;
  }
}

const bytesOf = (pieces: readonly number[]): number =>
  pieces.reduce((sum, value, index) => (index & 1 ? sum + value : sum), 0);

/** Ports by what was asked for. */
export class FakeNet implements HostNet {
  readonly ports = new Map<string, FakePort>();
  /** What an opening fails with, by the same names. */
  readonly errors = new Map<string, Error>();
  readonly #memory: GuestMemory;

  constructor(memory: GuestMemory) {
    this.#memory = memory;
  }

  tap(name: string, bridge?: string): { port: NetPort; name: string } {
    const given = name === "" ? "tap0" : name;
    return { port: this.#make(`tap ${given}${bridge ? ` on ${bridge}` : ""}`), name: given };
  }
  stream(path: string): NetPort {
    return this.#make(`stream ${path}`);
  }
  pair(): { port: NetPort; fd: number } {
    throw new Error("a fake network has no child processes");
  }
  switch(folder: string): NetPort {
    return this.#make(`switch ${folder}`);
  }
  vmnet(mode: string, id: string): { port: NetPort; mac: string } {
    return { port: this.#make(`vmnet ${mode} ${id}`), mac: "02:00:00:00:00:01" };
  }

  #make(what: string): FakePort {
    const error = this.errors.get(what);
    if (error !== undefined) throw error;
    const port = new FakePort(this.#memory);
    this.ports.set(what, port);
    return port;
  }
}
