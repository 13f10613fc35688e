// The two addons as TypeScript finds and types them. What each function takes and checks is in
// native/addon/*.
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { AcceleratorInfo } from "./types.js";

/** hv::VmEvent. */
export const NOTICE = {
  parked: 0,
  halted: 1,
  tripleFault: 2,
  unhandledIo: 3,
  timer: 4,
  uart: 5,
  exited: 6,
} as const;

export type Notify = (event: number, number: number, generation: number, text: string) => void;

export interface NativeMachine {
  accelerator(): [name: string, reason: string];
  shared(): ArrayBuffer;
  memoryWindow(index: number): ArrayBuffer;
  written(gpa: number, length: number): void;

  mapRange(
    name: string,
    space: number,
    base: number,
    length: number,
    ways: readonly number[],
  ): [id: number, block: ArrayBuffer];
  moveRange(id: number, base: number): void;
  enableRange(id: number, on: boolean): void;
  removeRange(id: number): void;
  answer(vcpu: number, value: number): void;
  unblock(vcpu: number): void;
  outstanding(): boolean;

  line(kind: number, number: number): number;
  setLine(line: number, level: boolean): void;
  setTrigger(irq: number, level: boolean): void;
  msi(address: number, data: number): boolean;
  nmi(): void;
  setA20(open: boolean): void;

  now(): bigint;
  timer(): number;
  armTimer(timer: number, at: bigint): number;
  cancelTimer(timer: number): void;

  uart(line: number | undefined): number;
  mapUart(uart: number, name: string, port: number): number;
  uartRead(uart: number, offset: number): number;
  uartWrite(uart: number, offset: number, value: number): void;
  uartInterrupting(uart: number): boolean;
  uartTake(uart: number): Uint8Array;
  uartReceive(uart: number, bytes: Uint8Array): boolean;
  uartBreak(uart: number): void;
  uartHold(uart: number, on: boolean): void;
  uartReset(uart: number): void;
  uartSave(uart: number): string;
  uartRestore(uart: number, state: string): string;

  ioAdd(fd: number, alignment: number): number;
  ioTwin(file: number): number;
  ioBuffer(size: number): [address: number, bytes: ArrayBuffer];
  ioDrop(address: number): void;
  ioSubmit(numbers: Float64Array, count: number): boolean;
  ioTake(into: Int32Array): number;
  ioCancel(file: number): void;
  ioClose(file: number): void;

  netTap(name: string, bridge: string): [port: NativeNetPort, name: string];
  netStream(path: string): NativeNetPort;
  netPair(): [port: NativeNetPort, fd: number];
  netSwitch(folder: string, mac: Uint8Array): NativeNetPort;
  netVmnet(mode: number, interfaceId: string, bridgeTo: string): [port: NativeNetPort, mac: string];

  run(): boolean;
  park(): void;
  settle(): void;
  reset(): boolean;
  stop(): void;
  release(): void;

  vcpu(index: number): string | undefined;
  setVcpu(index: number, state: string): string;
  save(): string;
  restore(state: string): string;
  statistics(): string;
}

/** Chains: pieces, then address and length of each, chain after chain. Results: 4 * count + stop. */
export interface NativeNetPort {
  offloads(): number;
  fault(): string;
  listen(ready: (readable: boolean, writable: boolean) => void): void;
  watch(readable: boolean, writable: boolean): void;
  agree(header: number, mergeable: boolean, checksums: boolean, accepts: number): void;
  filter(mode: number, mac: Uint8Array, addresses: Uint8Array, vlans: Uint8Array): void;
  post(chains: Float64Array, count: number): number;
  clear(): void;
  receive(into: Uint32Array, wholeRing: boolean): number;
  send(chains: Float64Array, count: number): number;
  flush(): boolean;
  capture(fd: number, name: string, limit: number, snap: number): void;
  takeCapture(): object | undefined;
  continueCapture(running: object): void;
  stopCapture(): void;
  statistics(): string;
  close(): void;
}

export interface VmmAddon {
  readonly NativeMachine: new (
    accelerator: string,
    cpus: number,
    memory: number,
    x2apic: boolean,
    strictIo: boolean,
    ignoreUnknownMsrs: boolean,
    rtcUtc: boolean,
    hostCpu: boolean,
    serve: () => void,
    notify: Notify,
    completed: () => void,
  ) => NativeMachine;
  acceleratorInfo(): AcceleratorInfo[];
  automaticAccelerator(): AcceleratorInfo;
}

const require = createRequire(import.meta.url);
const nodeGypBuild = require("node-gyp-build") as { resolve(folder: string): string };

/** From native/ or from dist/native/: the first folder above that has `path`. */
function above(...path: readonly string[]): string | undefined {
  const here = dirname(fileURLToPath(import.meta.url));
  return ["..", "../.."].map((up) => join(here, up, ...path)).find((found) => existsSync(found));
}

/**
 * XHYVED_NATIVE: the folder of the built addons, or one of them. Without it, what was built here,
 * else what came ready made for this host.
 */
function addonPath(name: AddonName): string {
  const chosen = process.env.XHYVED_NATIVE;
  if (chosen !== undefined && chosen !== "")
    return join(chosen.endsWith(".node") ? dirname(chosen) : chosen, `${name}.node`);
  const built = above("build", "Release", `${name}.node`);
  if (built !== undefined) return built;
  const prebuilt = above("prebuilt", name);
  if (prebuilt !== undefined) return nodeGypBuild.resolve(prebuilt);
  throw new Error(
    `${name}.node has not been built: run npm ci, or set XHYVED_NATIVE to its folder`,
  );
}

type AddonName = "vmm" | "host";

export const loadAddon = (name: AddonName): unknown => require(addonPath(name));
