// One VM as the rest of TypeScript sees it, over the native machine: lifecycle, state, and the parts
// that devices are given.
//
//   paused (as made) ── start, resume ──▶ running ── pause, triple fault, strict I/O ──▶ pausing ──▶ paused
//   any ── destroy ──▶ destroyed
import { type NativeMachine, NOTICE, type VmmAddon } from "./addon.js";
import { SharedBus } from "./bus/bus.js";
import { NativeIo } from "./io.js";
import { WindowedMemory } from "./memory.js";
import { NativeNet } from "./net.js";
import { NativeSerial } from "./serial.js";
import type {
  AcceleratorInfo,
  Clock,
  InterruptLine,
  Interrupts,
  Machine,
  MachineEvent,
  MachineOptions,
  MachineStatistics,
  SavedComponent,
  Timer,
} from "./types.js";

type Phase = "running" | "pausing" | "paused" | "destroyed";

/** JSON with bigints as "0x…", which the core reads as numbers. */
const print = (value: unknown): string =>
  JSON.stringify(value, (_, member: unknown) =>
    typeof member === "bigint" ? `0x${member.toString(16)}` : member,
  );

class NativeLine implements InterruptLine {
  readonly #native: NativeMachine;
  readonly id: number;

  constructor(native: NativeMachine, kind: number, number: number) {
    this.#native = native;
    this.id = native.line(kind, number);
  }

  set(level: boolean): void {
    this.#native.setLine(this.id, level);
  }

  pulse(): void {
    this.set(true);
    this.set(false);
  }
}

const lineId = (line: InterruptLine): number => {
  if (line instanceof NativeLine) return line.id;
  throw new TypeError("an interrupt line of the same machine is needed");
};

const KIND = { isa: 0, ioapic: 1, pic: 2 } as const;

const interruptsOf = (native: NativeMachine): Interrupts => ({
  isa: (irq) => new NativeLine(native, KIND.isa, irq),
  pic: (irq) => new NativeLine(native, KIND.pic, irq),
  ioapic: (pin) => new NativeLine(native, KIND.ioapic, pin),
  trigger: (irq, level) => native.setTrigger(irq, level),
  msi: (address, data) => void native.msi(address, data),
});

/** Timers by their native numbers. */
class Timers implements Clock {
  readonly #native: NativeMachine;
  readonly #due: ((generation: number) => void)[] = [];

  constructor(native: NativeMachine) {
    this.#native = native;
  }

  now(): bigint {
    return this.#native.now();
  }

  timer(callback: () => void): Timer {
    const native = this.#native;
    const id = native.timer();
    let armed = -1;
    // A deadline replaced or cancelled after the native side let it go is not this one's.
    this.#due[id] = (generation) => {
      if (generation !== armed) return;
      armed = -1;
      callback();
    };
    return {
      arm(at) {
        armed = native.armTimer(id, at);
      },
      cancel() {
        armed = -1;
        native.cancelTimer(id);
      },
    };
  }

  elapsed(id: number, generation: number): void {
    this.#due[id]?.(generation);
  }
}

export class NativeBackedMachine implements Machine {
  readonly accelerator: AcceleratorInfo;
  readonly bus: SharedBus;
  readonly interrupts: Interrupts;
  readonly clock: Timers;
  readonly memory: WindowedMemory;
  readonly io: NativeIo;
  readonly net: NativeNet;
  readonly serial: NativeSerial;
  readonly #native: NativeMachine;
  readonly #listeners: ((event: MachineEvent) => void)[] = [];
  #phase: Phase = "paused";
  #started = false;
  #whenPaused: PromiseWithResolvers | undefined;
  #whenDestroyed: PromiseWithResolvers | undefined;

  constructor(addon: VmmAddon, options: MachineOptions) {
    this.#native = new addon.NativeMachine(
      options.accelerator,
      options.cpus,
      options.memory,
      options.x2apic ?? false,
      options.strictIo ?? false,
      options.ignoreUnknownMsrs ?? false,
      options.rtcUtc ?? true,
      options.cpuModel === "host",
      () => this.bus.serve(),
      (event, number, generation, text) => this.#notice(event, number, generation, text),
      () => this.io.completed(),
    );
    const [name, reason] = this.#native.accelerator();
    this.accelerator = { name, usable: true, reason };
    this.bus = new SharedBus(this.#native, lineId);
    this.interrupts = interruptsOf(this.#native);
    this.clock = new Timers(this.#native);
    this.memory = new WindowedMemory(this.#native, options.memory);
    this.io = new NativeIo(this.#native);
    this.net = new NativeNet(this.#native);
    this.serial = new NativeSerial(this.#native, lineId);
  }

  start(): void {
    if (this.#started) throw new Error("the machine has been started before");
    this.#run();
    this.#started = true;
  }

  pause(): Promise<void> {
    if (this.#phase === "destroyed") return Promise.reject(new Error("the machine is destroyed"));
    if (this.#phase === "paused") return Promise.resolve();
    this.#whenPaused ??= withResolvers();
    if (this.#phase === "running") {
      this.#phase = "pausing";
      this.#native.park();
    }
    return this.#whenPaused.promise;
  }

  resume(): void {
    if (!this.#started) throw new Error("the machine has not been started");
    this.#run();
  }

  reset(): void {
    if (!this.#native.reset()) throw new Error("reset() is for a paused machine");
  }

  destroy(): Promise<void> {
    if (this.#whenDestroyed === undefined) {
      this.#whenDestroyed = withResolvers();
      this.#phase = "destroyed";
      this.io.stop();
      this.#native.stop();
    }
    return this.#whenDestroyed.promise;
  }

  nmi(): void {
    this.#native.nmi();
  }

  setA20(open: boolean): void {
    this.#native.setA20(open);
  }

  vcpu(index: number): SavedComponent {
    const text = this.#native.vcpu(index);
    if (text === undefined) throw new Error("the machine is not paused, or has no such vCPU");
    return JSON.parse(text) as SavedComponent;
  }

  setVcpu(index: number, saved: SavedComponent): void {
    const wrong = this.#native.setVcpu(index, print(saved));
    if (wrong !== "") throw new Error(wrong);
  }

  save(): Record<string, SavedComponent> {
    if (this.#phase !== "paused") throw new Error("state can be saved only while paused");
    return JSON.parse(this.#native.save()) as Record<string, SavedComponent>;
  }

  restore(components: Readonly<Record<string, SavedComponent>>): void {
    const wrong = this.#native.restore(print(components));
    if (wrong !== "") throw new Error(wrong);
  }

  statistics(): MachineStatistics {
    return JSON.parse(this.#native.statistics()) as MachineStatistics;
  }

  onEvent(listener: (event: MachineEvent) => void): void {
    this.#listeners.push(listener);
  }

  #run(): void {
    if (this.#phase !== "paused" || !this.#native.run())
      throw new Error(`a machine that is ${this.#phase} cannot be let run`);
    this.#phase = "running";
  }

  #notice(event: number, number: number, generation: number, text: string): void {
    switch (event) {
      case NOTICE.parked:
        this.#parked();
        break;
      case NOTICE.halted:
        this.#tell({ kind: "halted" });
        break;
      case NOTICE.tripleFault:
        this.#ended({ kind: "triple-fault", vcpu: number });
        break;
      case NOTICE.unhandledIo:
        this.#ended({ kind: "unhandled-io", access: text });
        break;
      case NOTICE.timer:
        if (this.#phase !== "destroyed") this.clock.elapsed(number, generation);
        break;
      case NOTICE.uart:
        if (this.#phase !== "destroyed") this.serial.attend(number);
        break;
      case NOTICE.exited:
        this.#native.release();
        this.#whenPaused?.reject(new Error("the machine was destroyed"));
        this.#whenDestroyed?.resolve();
        break;
    }
  }

  /** No vCPU posts any more: what is posted can be served to the end. */
  #parked(): void {
    if (this.#phase === "destroyed") return;
    while (this.#native.outstanding()) this.bus.serve();
    this.#native.settle();
    this.#phase = "paused";
    const waiting = this.#whenPaused;
    this.#whenPaused = undefined;
    waiting?.resolve();
  }

  /** The core has begun to pause by itself. */
  #ended(event: MachineEvent): void {
    if (this.#phase === "running") this.#phase = "pausing";
    this.#tell(event);
  }

  #tell(event: MachineEvent): void {
    for (const listener of this.#listeners) listener(event);
  }
}

interface PromiseWithResolvers {
  readonly promise: Promise<void>;
  readonly resolve: () => void;
  readonly reject: (reason: Error) => void;
}

/** Promise.withResolvers, which Node 20 lacks. */
function withResolvers(): PromiseWithResolvers {
  let resolve: () => void = () => {};
  let reject: (reason: Error) => void = () => {};
  const promise = new Promise<void>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  return { promise, resolve, reject };
}
