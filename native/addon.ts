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
  exited: 5,
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

  ioAdd(fd: number): number;
  ioSubmit(numbers: Float64Array, count: number): boolean;
  ioTake(into: Int32Array): number;
  ioCancel(file: number): void;
  ioClose(file: number): void;

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

export interface VmmAddon {
  readonly NativeMachine: new (
    accelerator: string,
    cpus: number,
    memory: number,
    x2apic: boolean,
    strictIo: boolean,
    ignoreUnknownMsrs: boolean,
    rtcUtc: boolean,
    serve: () => void,
    notify: Notify,
    completed: () => void,
  ) => NativeMachine;
  acceleratorInfo(): AcceleratorInfo[];
  automaticAccelerator(): AcceleratorInfo;
}

/** XHYVED_NATIVE: the folder of the built addons, or one of them. */
function addonFolder(name: string): string {
  const chosen = process.env.XHYVED_NATIVE;
  if (chosen !== undefined && chosen !== "")
    return chosen.endsWith(".node") ? dirname(chosen) : chosen;
  // From native/ or from dist/native/.
  const here = dirname(fileURLToPath(import.meta.url));
  for (const up of ["..", "../.."]) {
    const folder = join(here, up, "build", "Release");
    if (existsSync(join(folder, name))) return folder;
  }
  throw new Error(`${name} has not been built: run npm ci, or set XHYVED_NATIVE to its folder`);
}

export function loadAddon(name: "vmm.node" | "host.node"): unknown {
  return createRequire(import.meta.url)(join(addonFolder(name), name));
}
