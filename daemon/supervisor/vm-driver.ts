// One VM as the daemon governs it. Three things move it: what clients ask (judged when it comes
// and again at its turn, one at a time, in order; a stop overtakes all), what it should be (the
// reconciler looks again after every change), and what follows its end (the restart policy).
//
//   defined ─ start ─▶ starting ─▶ running ◀─ pause, resume ─▶ paused
//                                     └────────── end ──────────┘
//                                              ▼
//              stopping ─▶ stopped | failed ── the policy's delay ─▶ starting …
import { constants, rmSync } from "node:fs";
import type { Logger } from "pino";
import {
  type CaptureRequest,
  type Drive,
  drivesOf,
  forbidden,
  type MediumChange,
  type NetworkView,
  type Power,
  reasonOf,
  type Verb,
  type VmDefinition,
  VmError,
  type VmPower,
  type VmView,
  type WaitState,
  withMedium,
} from "../../api-schema/index.js";
import type { Networks } from "../networks/networks.js";
import type { ProcessRecord, Supervision, VmRow } from "../registry/registry.js";
import { admit, isOff, judge, type Request } from "./admission.js";
import { ConsoleFeed } from "./console-feed.js";
import { hardChanges } from "./live-changes.js";
import { Readiness } from "./readiness.js";
import { nextStep, type Step } from "./reconciler.js";
import { RequestQueue } from "./request-queue.js";
import { afterEnd } from "./restart-policy.js";
import type { VmConnection } from "./vm-connection.js";
import type { VmFolders } from "./vm-folders.js";
import type { VmExit } from "./vm-process.js";
import { type RecordTools, type RowChange, type StatusChange, VmRecord } from "./vm-record.js";
import { VmRun } from "./vm-run.js";

export interface DriverTools extends RecordTools {
  readonly folders: VmFolders;
  readonly networks: Networks;
  readonly log: Logger;
  /** Nothing is started any more. */
  hostGoesDown(): boolean;
}

/** What a client makes of a definition; without `power` that stays as it is. */
export interface Wanted {
  readonly definition: VmDefinition;
  readonly power?: Power | undefined;
}

const GRACE_MS = 2_000;

export class VmDriver {
  /** What is going on at the console. */
  readonly console: ConsoleFeed;
  readonly #tools: DriverTools;
  readonly #record: VmRecord;
  readonly #queue: RequestQueue;
  readonly #run: VmRun;
  readonly #readiness: Readiness;
  /** On the way to the power that is wished for: not begun to, or started and not there yet. */
  #driving: "begin" | "started" | undefined;
  /** Until resume(): what runs is not known yet, and nothing is done by itself. */
  #held = true;
  /** Stops that have overtaken what waited. */
  #stops = 0;
  #shutdownSent = false;
  #timer: NodeJS.Timeout | undefined;
  #gone = false;

  constructor(row: VmRow, tools: DriverTools) {
    this.#tools = tools;
    this.#record = new VmRecord(row, tools);
    this.#driving = row.status.observedGeneration < row.generation ? "begin" : undefined;
    this.#queue = new RequestQueue(
      () => this.name,
      () => this.#changed(),
    );
    const { folders, networks, log } = tools;
    const record = this.#record;
    this.#run = new VmRun({ record, folders, networks, log, ended: (exit) => this.#ended(exit) });
    this.console = new ConsoleFeed({
      live: () => !this.#gone && !isOff(this.state),
      connect: async (listener) => (await this.#run.link.open(listener)).connection,
      control: () => this.#run.link.connection,
    });
    this.#readiness = new Readiness(record, folders.console(this.uuid));
    record.watch(() => this.#changed());
  }

  get uuid(): string {
    return this.#record.uuid;
  }
  get name(): string {
    return this.#record.name;
  }
  get state(): VmPower {
    return this.#record.state;
  }
  get row(): VmRow {
    return this.#record.row;
  }
  get hasConsole(): boolean {
    const { serial, devices } = this.#record.definition;
    const cards = devices.flatMap((device) => ("serial" in device ? [device.serial] : []));
    return [serial.com1, serial.com2, ...cards].some(
      (port) => typeof port === "object" && port.backend === "console",
    );
  }

  view(): VmView {
    return this.#record.view();
  }

  connection(purpose: string): VmConnection {
    return this.#run.connection(purpose);
  }

  /** Carries the verb out, or throws VM_STATE_FORBIDS; resolves with what the VM is then. */
  async request(verb: Verb, options: { timeout?: number } = {}): Promise<VmView> {
    this.#judged(verb);
    if (verb === "start") this.#refuseStart();
    if (verb === "stop" || verb === "kill") return this.#end(verb);
    const stops = this.#stops;
    return this.#queue.add(verb, async () => {
      if (verb === "start" && stops !== this.#stops) throw forbidden("being stopped", verb);
      if (this.#admitted(verb)) await this.#carryOut(verb, options.timeout);
      else if (verb === "shutdown") this.#wish("stopped");
      return this.view();
    });
  }

  /**
   * Stores what `change` makes of the definition; drives the VM to the power that it names. Throws
   * VM_STATE_FORBIDS naming the fields that cannot be changed while it runs.
   */
  change(
    change: (definition: VmDefinition, generation: number) => VmDefinition | Wanted,
  ): Promise<VmView> {
    return this.#queue.add("change", async () => {
      this.#admitted("change");
      const { definition: before, row } = this.#record;
      const changed = change(before, row.generation);
      const wanted: Wanted = "definition" in changed ? changed : { definition: changed };
      this.#refuseHard(before, wanted.definition);
      this.#declare(wanted);
      return this.view();
    });
  }

  /** What lies in its CD drives. */
  async drives(): Promise<Drive[]> {
    if (isOff(this.state)) return drivesOf(this.#record.definition.devices);
    const { drives } = await this.connection("show its media").call("media", {});
    const seed = this.#record.definition.cloudInit?.slot; // the daemon's own, not a client's
    return drives.filter(({ device }) => device !== seed);
  }

  /** In the VM's process where there is one, and in the definition. */
  changeMedium(device: string, change: MediumChange): Promise<Drive[]> {
    return this.#queue.add("change", async () => {
      this.#admitted("change");
      const { definition } = this.#record;
      const devices = withMedium(definition.devices, device, change);
      if (!isOff(this.state)) await this.#insert(device, change);
      this.#declare({ definition: { ...definition, devices } });
      return this.drives();
    });
  }

  /** Throws VmError CAPTURE_FAILED where the file cannot be made. */
  async startCapture(slot: string, request: CaptureRequest): Promise<NetworkView> {
    const { file } = request;
    const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
    let made = false;
    const open = (): number => {
      const fd = this.#open("CAPTURE_FAILED", file, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW);
      made = true;
      return fd;
    };
    const connection = this.connection("capture");
    try {
      return await connection.callWithFile("startCapture", { slot, ...request }, open);
    } catch (error) {
      if (made) rmSync(file, { force: true });
      throw error;
    }
  }

  async #insert(device: string, change: MediumChange): Promise<void> {
    const connection = this.connection("change a medium");
    const params = { ...change, device };
    const { path, format } = change;
    if (path === undefined || format === "nbd") await connection.call("changeMedium", params);
    else
      await connection.callWithFile("changeMedium", params, () =>
        this.#open("IMAGE_UNUSABLE", path, constants.O_RDONLY | constants.O_NONBLOCK),
      );
  }

  /** What a VM that runs gets is opened here: its process may have no right to it. */
  #open(code: "IMAGE_UNUSABLE" | "CAPTURE_FAILED", path: string, flags: number): number {
    try {
      return this.#tools.folders.paths.open(path, flags, flags & constants.O_CREAT ? 0o600 : 0);
    } catch (error) {
      throw new VmError(code, [path, reasonOf(error)], { cause: error });
    }
  }

  /** Runs `remove` while the VM is off; nothing can be asked of it afterwards. */
  remove(remove: (generation: number) => void): Promise<void> {
    return this.#queue.add("delete", async () => {
      this.#admitted("delete");
      if (this.#record.definition.protected) throw new VmError("VM_PROTECTED", [this.name]);
      remove(this.row.generation);
      this.#retire();
      this.#record.gone();
    });
  }

  /** Runs `work` while the VM is off and stays so. */
  whileOff<T>(work: (definition: VmDefinition) => Promise<T>): Promise<T> {
    return this.#queue.add("clone", async () => {
      this.#admitted("clone");
      return work(this.#record.definition);
    });
  }

  /** Resolves once it has been so, or will not come to it by itself, or the time is over. */
  async waitFor(wanted: WaitState, timeoutSeconds: number, signal?: AbortSignal): Promise<VmView> {
    const reached = (): boolean => this.#is(wanted) || (isOff(this.state) && !this.#comes());
    await this.#record.until(reached, timeoutSeconds * 1000, signal);
    return this.view();
  }

  /** Resolves once its status or definition is another than these generations, or time is over. */
  async waitForChange(
    seen: { readonly generation?: number; readonly status?: number },
    timeoutSeconds: number,
    signal?: AbortSignal,
  ): Promise<VmView> {
    const { generation = this.row.generation, status = this.row.status.generation } = seen;
    const changed = (): boolean =>
      this.#gone || this.row.generation !== generation || this.row.status.generation !== status;
    await this.#record.until(changed, timeoutSeconds * 1000, signal);
    if (this.#gone) throw new VmError("VM_NOT_FOUND", [this.name]);
    return this.view();
  }

  /** After a restart of the daemon: `found` is the process that lives in the VM's folder. */
  async adopt(found: ProcessRecord | undefined, hostBooted: boolean): Promise<void> {
    if (this.row.process !== undefined || found !== undefined) await this.#run.adopt(found);
    else if (!isOff(this.state))
      this.#ended({ state: "failed", detail: "its process was never started" });
    if (hostBooted && this.row.status.reason === "killed by signal") {
      const { nextStart: _, crashLoop: __, ...status } = this.row.status;
      this.#record.note({ status: { ...status, state: "stopped", reason: "host restart" } });
    }
  }

  /** Goes on with what an earlier daemon had begun. */
  resume(): void {
    this.#held = false;
    // A stop or shutdown that an earlier daemon had accepted, and may not have passed on.
    if (this.row.power === "stopped" && !isOff(this.state)) this.#driving ??= "begin";
    this.#schedule();
    this.#changed();
  }

  markForBoot(): void {
    this.#record.store({ supervision: { ...this.row.supervision, boot: true } });
  }

  /** It is among those that start with the host, unless a client has had its say meanwhile. */
  async startAtBoot(): Promise<void> {
    await this.#queue.add("start", async () => {
      const { supervision } = this.row;
      if (this.#gone || supervision.boot !== true) return;
      if (isOff(this.state) && !this.#record.definition.template) await this.#tryStart("boot");
      else this.#record.note({ supervision: { ...supervision, boot: false } });
    });
  }

  /** For the host's shutdown: off within the limit, and no less wished for than before. */
  async shutDownWithHost(limitMs: number): Promise<void> {
    if (isOff(this.state)) return;
    const deadline = Date.now() + limitMs;
    try {
      const timeout = Math.max(0, Math.floor(limitMs / 1000));
      await this.connection("shut down").call("shutdown", { timeout });
    } catch (error) {
      this.#tools.log.warn({ vm: this.name, error: String(error) }, "it takes no power button");
      return this.#run.stop();
    }
    const off = (): boolean => isOff(this.state);
    if (!(await this.#record.until(off, deadline + GRACE_MS - Date.now()))) await this.#run.stop();
  }

  /** The daemon is ending: lets go of the process, which goes on. */
  release(): void {
    this.#retire();
    this.#run.release();
  }

  #retire(): void {
    this.#gone = true;
    clearTimeout(this.#timer);
    this.#readiness.stop();
  }

  // What clients ask.

  #judged(request: Request): void {
    if (this.#gone) throw new VmError("VM_NOT_FOUND", [this.name]);
    const verdict = judge(this.state, this.#queue.waiting, request);
    if (verdict.kind === "deny") throw forbidden(verdict.state, request);
  }

  #admitted(request: Request): boolean {
    if (this.#gone) throw new VmError("VM_NOT_FOUND", [this.name]);
    const verdict = admit(this.state, request);
    if (verdict.kind === "deny") throw forbidden(verdict.state, request);
    return verdict.kind === "do";
  }

  #refuseStart(): void {
    if (this.#record.definition.template) throw new VmError("VM_TEMPLATE", [this.name]);
    if (this.#tools.hostGoesDown()) throw new VmError("HOST_SHUTTING_DOWN");
  }

  #refuseHard(before: VmDefinition, after: VmDefinition): void {
    const hard = isOff(this.state) ? [] : hardChanges(before, after);
    if (hard.length > 0)
      throw new VmError("VM_STATE_FORBIDS", [this.state, `change ${hard.join(", ")}`]);
  }

  async #carryOut(verb: Exclude<Verb, "stop" | "kill">, timeout?: number): Promise<void> {
    switch (verb) {
      case "start":
        this.#refuseStart();
        return this.#start({ power: "running" }, 0);
      case "shutdown":
        return this.#shutDown(timeout);
      case "reset":
        await this.connection(verb).call(verb, {});
        return;
      case "pause":
        await this.connection(verb).call(verb, {});
        return this.#record.store({ power: "paused" });
      case "resume":
        await this.connection(verb).call(verb, {});
        return this.#record.store({ power: "running" });
    }
  }

  async #shutDown(timeout = this.#record.definition.shutdownTimeout): Promise<void> {
    const connection = this.connection("shutdown");
    const { power } = this.row;
    this.#record.store({ power: "stopped" });
    try {
      await connection.call("shutdown", { timeout });
    } catch (error) {
      if (!isOff(this.state)) this.#record.note({ power });
      throw error;
    }
  }

  async #end(verb: "stop" | "kill"): Promise<VmView> {
    this.#stops++;
    this.#wish("stopped");
    const off = isOff(this.state) && !this.#queue.waiting.includes("start");
    if (!off) await (verb === "stop" ? this.#run.stop() : this.#run.kill());
    return this.view();
  }

  /** Neither the policy nor the reconciler starts it any more. */
  #wish(power: "stopped"): void {
    this.#driving = undefined;
    clearTimeout(this.#timer);
    const { nextStart, crashLoop: _, ...status } = this.row.status;
    const waiting = nextStart !== undefined;
    this.#record.store({
      power,
      ...(this.row.supervision.boot === true && { supervision: {} }),
      ...(waiting && { status }),
    });
  }

  // What it should be.

  #declare({ definition, power }: Wanted): void {
    const observed = power === undefined && this.#driving === undefined;
    const change = { definition, declared: true, observed, ...(power && { power }) };
    const { row } = this.#record;
    if (power !== undefined) {
      this.#driving = "begin";
      this.#shutdownSent = false;
    }
    const waits = power === "stopped" && row.status.nextStart !== undefined;
    const { nextStart: _, ...status } = row.status;
    this.#record.store({ ...change, ...(waits && { status }) });
    if (power === "stopped") clearTimeout(this.#timer);
    this.#changed();
  }

  /** After every change of anything. */
  #changed(): void {
    this.console.changed();
    this.#readiness.look();
    if (isOff(this.state)) this.#shutdownSent = false;
    if (this.#gone || this.#held || this.#queue.waiting.length > 0) return;
    const { power, generation, status } = this.row;
    const next = this.#driving === undefined ? "done" : nextStep(power, this.state);
    if (next === "wait" || (next === "shutdown" && this.#shutdownSent)) return;
    if (next !== "done") return void this.#queue.add(next, () => this.#step());
    this.#driving = undefined;
    if (status.observedGeneration !== generation)
      this.#record.note({ status: { ...status, observedGeneration: generation } });
  }

  /** Looks once more, since its turn may have come late. Rejects never. */
  async #step(): Promise<void> {
    const next = nextStep(this.row.power, this.state);
    if (this.#gone || this.#driving === undefined || next === "done" || next === "wait") return;
    try {
      await this.#take(next);
    } catch (error) {
      this.#tools.log.warn({ vm: this.name, step: next, error: String(error) }, "not as wished");
      this.#driving = undefined;
    }
  }

  async #take(step: Step): Promise<void> {
    switch (step) {
      case "start":
        return this.#tryStart("wish");
      case "shutdown":
        this.#shutdownSent = true;
        return this.#shutDown();
      default:
        await this.connection(step).call(step, {});
    }
  }

  // What follows its end.

  #start(change: RowChange, restarts: number): Promise<void> {
    clearTimeout(this.#timer);
    const { ends = [] } = this.row.supervision;
    const supervision: Supervision = restarts === 0 ? {} : { ends };
    return this.#run.start({ supervision, ...change }, { restarts });
  }

  /** A start that no client waits for: when it fails the VM has failed. */
  async #tryStart(cause: "wish" | "boot" | "policy"): Promise<void> {
    const { power, status } = this.row;
    if (this.#record.definition.template || this.#tools.hostGoesDown()) {
      this.#driving = undefined;
      return;
    }
    const change: RowChange = power === "stopped" ? { power: "running" } : {};
    try {
      await this.#start(change, cause === "policy" ? status.restarts + 1 : 0);
      this.#driving = power === "paused" ? "started" : undefined;
    } catch (error) {
      this.#driving = undefined;
      const detail = error instanceof Error ? error.message : String(error);
      this.#tools.log.warn({ vm: this.name, cause, detail }, "it cannot be started");
      if (this.row.power !== "stopped" || cause === "boot")
        this.#ended({ state: "failed", reason: "start failed", exitStatus: 1, detail });
    }
  }

  #ended(exit: VmExit): void {
    this.#shutdownSent = false;
    const { power, status, supervision } = this.row;
    const at = Date.now();
    const ranMs = status.started === undefined ? 0 : at - Date.parse(status.started);
    const end = { at, ranMs, failed: exit.state === "failed" };
    if (this.#driving === "started") this.#driving = undefined;
    const left =
      power === "stopped" ||
      this.#driving !== undefined ||
      this.#run.isEnding ||
      this.#tools.hostGoesDown();
    const { ends = [] } = supervision;
    const { restart } = this.#record.definition;
    const after = left ? ({ kind: "leave", ends: [] } as const) : afterEnd(restart, ends, end);
    const next: StatusChange = {
      ...exit,
      ...(after.kind === "restart" && { nextStart: new Date(after.at).toISOString() }),
      ...(after.kind === "crash loop" && { crashLoop: true }),
    };
    this.#record.note({ status: next, supervision: { ends: after.ends }, process: null });
    if (after.kind === "crash loop")
      this.#tools.log.warn(
        { vm: this.name, ends: after.ends.length },
        "a crash loop: it stays off",
      );
    this.#schedule();
  }

  #schedule(): void {
    clearTimeout(this.#timer);
    const { nextStart } = this.row.status;
    if (nextStart === undefined || this.#gone || this.#held || !isOff(this.state)) return;
    const delay = Math.max(0, Date.parse(nextStart) - Date.now());
    this.#timer = setTimeout(() => void this.#restart(), delay);
    this.#timer.unref();
  }

  async #restart(): Promise<void> {
    await this.#queue
      .add("start", async () => {
        const { power, status } = this.row;
        if (this.#gone || power === "stopped" || !isOff(this.state)) return;
        if (status.nextStart !== undefined) await this.#tryStart("policy");
      })
      .catch((error: unknown) => this.#tools.log.error({ vm: this.name, error: String(error) }));
    this.#changed();
  }

  #is(wanted: WaitState): boolean {
    if (wanted !== "ready") return this.state === wanted;
    const probed = this.#record.definition.readiness.length > 0;
    return this.state === "running" && (!probed || this.row.status.ready === true);
  }

  /** Off, but not for long. */
  #comes(): boolean {
    const { power, status, supervision } = this.row;
    return (
      status.nextStart !== undefined ||
      supervision.boot === true ||
      (this.#driving !== undefined && power !== "stopped") ||
      this.#queue.waiting.includes("start")
    );
  }
}
