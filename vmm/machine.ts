// One VM, from its definition to its end: the driver that owns the native machine, the devices and
// the images, and the only thing that changes their state.
//
//   created ── start ──▶ starting ──▶ running ◀── pause, resume ──▶ paused
//      └────────────── any of them ── stop, guest's end ──▶ stopping ──▶ stopped | failed
//
// Requests are served one after the other in the order in which they came. What the guest asks
// for (reset, power-off, …) joins the same line; of several before the first is served, the first
// counts. After `stopped` or `failed` nothing lives any more.
import type { VmDefinition } from "../api-schema/definition.js";
import { VmError } from "../api-schema/errors.js";
import { type Drive, findDrive, type MediumChange, withMedium } from "../api-schema/media.js";
import type { StopReason, VmState, VmStatus } from "../api-schema/vm-rpc.js";
import type { DeviceSet } from "../devices/device.js";
import type {
  AcceleratorInfo,
  Machine,
  MachineStatistics,
  SavedComponent,
} from "../native/types.js";
import type { FirmwareTables } from "./firmware/index.js";
import type { HostFiles } from "./host-files.js";
import { lowMemoryOf } from "./layout.js";
import { applyEntry, applyFirmware, type BootImages, place } from "./loaders/index.js";
import { readMemory, type SavedMachine, writeState } from "./state-folder.js";

/** What a guest can ask of the machine as a whole; devices call these. */
export interface GuestRequests {
  powerOff(): void;
  reset(): void;
  debugExit(status: number): void;
  /** Writes to this disk wait for room on the host, or none do any more. */
  diskFull(name: string, full: boolean): void;
}

/** The TypeScript half of the machine, made by assembly.ts. */
export interface Assembled {
  readonly devices: DeviceSet;
  /** False where the guest has not enabled ACPI and would not notice. */
  pressPowerButton(): boolean;
  readonly acpiEnabled: boolean;
  drives(): Drive[];
  /** By the drive's name in the definition. */
  changeMedium(drive: string, change: MediumChange, files?: HostFiles): Promise<void>;
  /** What disks and network cards have done, by a name for each. */
  counts(): Readonly<Record<string, Readonly<Record<string, number>>>>;
}

export type VmStatistics = MachineStatistics & {
  readonly devices: ReturnType<Assembled["counts"]>;
};

export interface VmParts {
  readonly definition: VmDefinition;
  readonly machine: Machine;
  readonly images: BootImages;
  readonly firmware: FirmwareTables;
  assemble(requests: GuestRequests): Assembled;
  readonly onReset: "restart" | "exit";
  /** Go on from a saved state: its folder, and what readState() said of it. */
  readonly restore?: { readonly folder: string; readonly saved: SavedMachine } | undefined;
}

interface End {
  readonly reason: StopReason;
  readonly state: "stopped" | "failed";
  readonly exitStatus: number;
  readonly detail?: string;
}

// Exit statuses are the original's; it aborts on unhandled I/O (SIGABRT: 128 + 6).
const ENDS = {
  powerOff: { reason: "guest power-off", state: "stopped", exitStatus: 1 },
  reset: { reason: "guest reset", state: "stopped", exitStatus: 0 },
  halt: { reason: "guest halt", state: "stopped", exitStatus: 2 },
  tripleFault: { reason: "guest triple fault", state: "failed", exitStatus: 3 },
  unhandledIo: { reason: "unhandled I/O", state: "failed", exitStatus: 134 },
  stop: { reason: "stop requested", state: "stopped", exitStatus: 100 },
  timeLimit: { reason: "shutdown time limit", state: "stopped", exitStatus: 100 },
  startFailed: { reason: "start failed", state: "failed", exitStatus: 1 },
  internal: { reason: "internal error", state: "failed", exitStatus: 100 },
} as const satisfies Record<string, End>;

const isLast = (state: VmState): boolean => state === "stopped" || state === "failed";

export class VirtualMachine {
  /** With the media as they are now. */
  definition: VmDefinition;
  /** Resolves with the last status. */
  readonly ended: Promise<VmStatus>;
  readonly #parts: VmParts;
  readonly #machine: Machine;
  readonly #assembled: Assembled;
  readonly #listeners = new Set<(status: VmStatus) => void>();
  #status: VmStatus = { state: "created", generation: 0, resets: 0 };
  #work: Promise<unknown> = Promise.resolve();
  /** The guest's wish, until it is served. */
  #guestAsked = false;
  /** Grows with every restart: a wish from before it is void. */
  #life = 0;
  #everRan = false;
  #shutdownTimer: NodeJS.Timeout | undefined;
  #resolveEnded: (status: VmStatus) => void = () => {};

  constructor(parts: VmParts) {
    this.#parts = parts;
    this.definition = parts.definition;
    this.#machine = parts.machine;
    this.ended = new Promise((resolve) => {
      this.#resolveEnded = resolve;
    });
    this.#assembled = parts.assemble({
      powerOff: () => this.#guestAsks(() => this.#end(ENDS.powerOff)),
      reset: () => this.#guestAsks(() => this.#guestReset()),
      debugExit: (status) => this.#guestAsks(() => this.#end(debugEnd(status))),
      diskFull: (name, full) => this.#diskFull(name, full),
    });
    this.#machine.onEvent((event) => {
      if (event.kind === "halted") this.#guestAsks(() => this.#end(ENDS.halt));
      else if (event.kind === "triple-fault") {
        const detail = `vCPU ${event.vcpu}`;
        this.#guestAsks(() => this.#end({ ...ENDS.tripleFault, detail }));
      } else this.#guestAsks(() => this.#end({ ...ENDS.unhandledIo, detail: event.access }));
    });
  }

  get status(): VmStatus {
    return this.#status;
  }
  get accelerator(): AcceleratorInfo {
    return this.#machine.accelerator;
  }
  get acpiEnabled(): boolean {
    return !isLast(this.#status.state) && this.#assembled.acpiEnabled;
  }
  /** Seconds. */
  get guestTime(): number {
    return isLast(this.#status.state) ? 0 : Number(this.#machine.clock.now()) / 1e9;
  }

  onStatus(listener: (status: VmStatus) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  start(): Promise<VmStatus> {
    return this.#request("start", ["created"], async () => {
      this.#set("starting");
      try {
        if (this.#parts.restore === undefined) this.#boot();
        else this.#restore(this.#parts.restore);
        this.#run();
      } catch (error) {
        const detail = error instanceof Error ? error.message : String(error);
        await this.#end({ ...ENDS.startFailed, detail });
        throw error;
      }
    });
  }

  pause(): Promise<VmStatus> {
    return this.#request("pause", ["running"], async () => {
      await this.#machine.pause();
      await this.#assembled.devices.rest();
      // What the guest asked for on the way comes next in line, and finds the machine paused.
      this.#set("paused");
    });
  }

  resume(): Promise<VmStatus> {
    return this.#request("resume", ["paused"], async () => this.#run());
  }

  reset(): Promise<VmStatus> {
    return this.#request("reset", ["running", "paused"], () => this.#restart());
  }

  /** The button alone; what follows is the guest's affair. */
  powerButton(): Promise<VmStatus> {
    return this.#request("take the power button", ["running"], async () => {
      this.#assembled.pressPowerButton();
    });
  }

  /** The power button, then a stop when `seconds` are over; at once where no guest listens. */
  shutdown(seconds = this.definition.shutdownTimeout): Promise<VmStatus> {
    return this.#request("shut down", ["created", "running", "paused"], async () => {
      if (this.#status.state === "paused") this.#run();
      const heard = this.#status.state === "running" && this.#assembled.pressPowerButton();
      if (!heard) return this.#end(ENDS.stop);
      this.#shutdownTimer ??= setTimeout(() => void this.#stop(ENDS.timeLimit), seconds * 1000);
    });
  }

  stop(): Promise<VmStatus> {
    return this.#stop(ENDS.stop);
  }

  registers(vcpu: number): SavedComponent {
    if (vcpu >= this.definition.cpus) {
      throw new VmError("VCPU_NOT_FOUND", [vcpu, this.definition.cpus]);
    }
    this.#allow("show its registers", ["created", "paused"]);
    return this.#machine.vcpu(vcpu);
  }

  statistics(): VmStatistics {
    const devices = this.#assembled.counts();
    if (isLast(this.#status.state)) return { vcpus: [], bus: {}, devices };
    return { ...this.#machine.statistics(), devices };
  }

  drives(): Drive[] {
    return isLast(this.#status.state) ? [] : this.#assembled.drives();
  }

  /** Ejects what lies in the drive, and inserts where there is a path, which `files` opens. */
  async changeMedium(device: string, change: MediumChange, files?: HostFiles): Promise<Drive[]> {
    const { name } = findDrive(this.definition.devices, device);
    await this.#request("change a medium", ["created", "running", "paused"], () =>
      this.#assembled.changeMedium(name, change, files),
    );
    const devices = withMedium(this.definition.devices, device, change);
    this.definition = { ...this.definition, devices };
    return this.drives();
  }

  /** Resolves with the bytes of memory saved. */
  async saveState(folder: string): Promise<number> {
    let bytes = 0;
    await this.#request("be saved", ["paused"], async () => {
      const saved: SavedMachine = {
        format: 1,
        definition: this.definition,
        native: this.#machine.save(),
        devices: this.#assembled.devices.save(),
        resets: this.#status.resets,
      };
      bytes = writeState(folder, saved, this.#machine.memory);
    });
    return bytes;
  }

  /** One at a time, in order; refused where the state forbids it once its turn has come. */
  #request(
    what: string,
    from: readonly VmState[],
    act: () => Promise<void> | void,
  ): Promise<VmStatus> {
    const turn = this.#work.then(async () => {
      this.#allow(what, from);
      await act();
      return this.#status;
    });
    this.#work = turn.catch(() => {});
    return turn;
  }

  #allow(what: string, from: readonly VmState[]): void {
    const { state } = this.#status;
    if (!from.includes(state)) throw new VmError("VM_STATE_FORBIDS", [state, what]);
  }

  #stop(end: End): Promise<VmStatus> {
    return this.#request("stop", ["created", "running", "paused"], () => this.#end(end));
  }

  #guestAsks(act: () => Promise<void>): void {
    if (this.#guestAsked) return;
    this.#guestAsked = true;
    const life = this.#life;
    this.#work = this.#work
      .then(async () => {
        this.#guestAsked = false;
        if (life === this.#life && !isLast(this.#status.state)) await act();
      })
      .catch((error: unknown) => this.#fail(error));
  }

  #guestReset(): Promise<void> {
    return this.#parts.onReset === "exit" ? this.#end(ENDS.reset) : this.#restart();
  }

  #boot(): void {
    const { definition, firmware, images } = this.#parts;
    const { memory } = definition;
    const low = lowMemoryOf(memory);
    const rsdp = firmware.rsdp === undefined ? {} : { rsdp: firmware.rsdp };
    const plan = images.plan({ memory, low, ...rsdp });
    place(this.#machine.memory, [...firmware.pieces, ...plan.pieces]);
    for (let vcpu = 0; vcpu < definition.cpus; vcpu++) {
      const waiting = applyFirmware(this.#machine.vcpu(vcpu));
      this.#machine.setVcpu(vcpu, vcpu === 0 ? applyEntry(waiting, plan.entry) : waiting);
    }
  }

  #restore({ folder, saved }: NonNullable<VmParts["restore"]>): void {
    readMemory(folder, this.#machine.memory);
    try {
      this.#machine.restore(saved.native as Record<string, SavedComponent>);
      this.#assembled.devices.restore(saved.devices as Record<string, SavedComponent>);
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      throw new VmError("STATE_INVALID", [folder, why], { cause: error });
    }
    this.#status = { ...this.#status, resets: saved.resets };
  }

  #run(): void {
    this.#assembled.devices.wake();
    if (this.#everRan) this.#machine.resume();
    else this.#machine.start();
    this.#everRan = true;
    this.#set("running");
  }

  /** Back to power-on with the same images; a paused VM stays paused. */
  async #restart(): Promise<void> {
    const wasRunning = this.#status.state === "running";
    await this.#machine.pause();
    this.#life++;
    this.#guestAsked = false;
    this.#cancelShutdown();
    this.#machine.reset();
    this.#assembled.devices.reset();
    this.#boot();
    const resets = this.#status.resets + 1;
    if (wasRunning) this.#machine.resume();
    this.#publish({ ...this.#status, resets });
  }

  async #end({ reason, state, exitStatus, detail }: End): Promise<void> {
    this.#cancelShutdown();
    this.#set("stopping");
    try {
      await this.#machine.pause();
      this.#assembled.devices.flush();
      this.#assembled.devices.dispose();
    } finally {
      await this.#machine.destroy();
      this.#parts.images.close();
    }
    const { resets } = this.#status;
    const more = detail === undefined ? {} : { detail };
    this.#publish({ ...this.#status, state, reason, exitStatus, resets, ...more });
    this.#resolveEnded(this.#status);
  }

  /** Our own mistake, or a file that went away under a reset: the VM cannot go on. */
  async #fail(error: unknown): Promise<void> {
    if (isLast(this.#status.state)) return;
    const detail = error instanceof Error ? error.message : String(error);
    await this.#end({ ...ENDS.internal, detail }).catch((second: unknown) => {
      this.#publish({ ...this.#status, ...ENDS.internal, detail: `${detail}; then ${second}` });
      this.#resolveEnded(this.#status);
    });
  }

  #diskFull(name: string, full: boolean): void {
    if (isLast(this.#status.state)) return;
    const { fullDisks = [], ...status } = this.#status;
    const names = fullDisks.filter((one) => one !== name).concat(full ? [name] : []);
    this.#publish(names.length === 0 ? status : { ...status, fullDisks: names });
  }

  #cancelShutdown(): void {
    clearTimeout(this.#shutdownTimer);
    this.#shutdownTimer = undefined;
  }

  #set(state: VmState): void {
    this.#publish({ ...this.#status, state });
  }

  #publish(status: VmStatus): void {
    this.#status = { ...status, generation: this.#status.generation + 1 };
    for (const listener of this.#listeners) listener(this.#status);
  }
}

const debugEnd = (status: number): End => ({
  reason: "guest debug exit",
  state: "stopped",
  exitStatus: status & 0xff,
});
