// Network ports over the native ones: chains become numbers in one array that is used again.
import type { NativeMachine, NativeNetPort } from "./addon.js";
import type {
  HostNet,
  NetAgreement,
  NetCapture,
  NetFilter,
  NetFrames,
  NetPort,
  NetStatistics,
  NetStop,
  RunningCapture,
  VmnetMode,
} from "./types.js";

/** hv::net::Stop. */
const STOPS: readonly NetStop[] = ["limit", "empty", "starved", "down"];
/** hv::net::VmnetOptions::Mode. */
const VMNET_MODE: Record<VmnetMode, number> = { shared: 0, host: 1, bridged: 2 };
const FIRST_ROOM = 4096;

const framesOf = (coded: number): NetFrames => ({
  count: coded >>> 2,
  stop: STOPS[coded & 3] ?? "down",
});

class NativePort implements NetPort {
  readonly offloads: number;
  readonly #native: NativeNetPort;
  #numbers = new Float64Array(FIRST_ROOM);

  constructor(native: NativeNetPort) {
    this.#native = native;
    this.offloads = native.offloads();
  }

  listen(ready: (readable: boolean, writable: boolean) => void): void {
    this.#native.listen(ready);
  }
  watch(readable: boolean, writable: boolean): void {
    this.#native.watch(readable, writable);
  }
  agree({ header, mergeable, checksums, accepts }: NetAgreement): void {
    this.#native.agree(header, mergeable, checksums, accepts);
  }
  filter({ mode, mac, addresses, vlans }: NetFilter): void {
    this.#native.filter(mode, mac, addresses, vlans);
  }
  post(chains: readonly (readonly number[])[]): number {
    const count = this.#write(chains);
    return this.#native.post(this.#numbers, count);
  }
  clear(): void {
    this.#native.clear();
  }
  receive(into: Uint32Array, wholeRing: boolean): NetFrames {
    return framesOf(this.#native.receive(into, wholeRing));
  }
  send(chains: readonly (readonly number[])[]): NetFrames {
    // Evaluated first: it may replace the array.
    const count = this.#write(chains);
    return framesOf(this.#native.send(this.#numbers, count));
  }
  flush(): boolean {
    return this.#native.flush();
  }
  fault(): string {
    return this.#native.fault();
  }
  capture(capture: NetCapture | undefined): void {
    if (capture === undefined) this.#native.stopCapture();
    else this.#native.capture(capture.fd, capture.name, capture.limit, capture.snap);
  }
  takeCapture(): RunningCapture | undefined {
    return this.#native.takeCapture();
  }
  continueCapture(running: RunningCapture): void {
    this.#native.continueCapture(running);
  }
  statistics(): NetStatistics {
    return JSON.parse(this.#native.statistics()) as NetStatistics;
  }
  close(): void {
    this.#native.close();
  }

  /** How many numbers. */
  #write(chains: readonly (readonly number[])[]): number {
    let needed = 0;
    for (const pieces of chains) needed += 1 + pieces.length;
    if (needed > this.#numbers.length) this.#numbers = new Float64Array(2 * needed);
    const numbers = this.#numbers;
    let at = 0;
    for (const pieces of chains) {
      numbers[at++] = pieces.length >> 1;
      for (let i = 0; i < pieces.length; i++) numbers[at++] = pieces[i] ?? 0;
    }
    return at;
  }
}

export class NativeNet implements HostNet {
  readonly #native: NativeMachine;

  constructor(native: NativeMachine) {
    this.#native = native;
  }

  tap(name: string, bridge = ""): { port: NetPort; name: string } {
    const [port, given] = this.#native.netTap(name, bridge);
    return { port: new NativePort(port), name: given };
  }
  stream(path: string): NetPort {
    return new NativePort(this.#native.netStream(path));
  }
  pair(): { port: NetPort; fd: number } {
    const [port, fd] = this.#native.netPair();
    return { port: new NativePort(port), fd };
  }
  switch(folder: string, mac: Uint8Array): NetPort {
    return new NativePort(this.#native.netSwitch(folder, mac));
  }
  vmnet(mode: VmnetMode, interfaceId: string, bridgeTo = ""): { port: NetPort; mac: string } {
    const [port, mac] = this.#native.netVmnet(VMNET_MODE[mode], interfaceId, bridgeTo);
    return { port: new NativePort(port), mac };
  }
}
