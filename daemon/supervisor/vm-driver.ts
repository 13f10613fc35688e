// One VM as the daemon knows it: its definition, its status, its process. The driver owns that
// state; requests go through admission, one at a time, in order. Whatever ends the process, and
// however, the driver finds out; and a process that lives is talked to again when the connection
// to it breaks.
import { randomUUID } from "node:crypto";
import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "pino";
import {
  type Verb,
  type VmDefinition,
  VmError,
  type VmPower,
  type VmStatus,
  type VmStatusView,
  type VmView,
} from "../../api-schema/index.js";
import type { ProcessRecord, Registry, VmRow } from "../registry/registry.js";
import { admit, isOff, type Request } from "./admission.js";
import { ConsoleFeed } from "./console-feed.js";
import { VmConnection, type VmListener } from "./vm-connection.js";
import type { VmFolders } from "./vm-folders.js";
import {
  adoptVm,
  exitOf,
  identify,
  isAlive,
  spawnVm,
  startFailure,
  type VmExit,
  type VmProcess,
} from "./vm-process.js";

export interface DriverTools {
  readonly registry: Registry;
  readonly folders: VmFolders;
  readonly log: Logger;
}

const START_TIMEOUT_MS = 20_000;
const STOP_TIMEOUT_MS = 5_000;
/** How soon after its start a process is asked again whether it listens yet. */
const POLL_MS = 5;
const RECONNECT_MS = 200;
/** A process that was being started when the daemon died may not listen yet. */
const UNBORN_MS = 3_000;

type NewStatus = Omit<VmStatusView, "generation" | "resets" | "pid"> & { resets?: number };

export class VmDriver {
  /** What is going on at the console. */
  readonly console: ConsoleFeed;
  readonly #tools: DriverTools;
  #row: VmRow;
  #process: VmProcess | undefined;
  #connection: VmConnection | undefined;
  #queue: Promise<unknown> = Promise.resolve();
  /** Its process is being ended by us: a SIGKILL is then no failure of the VM. */
  #stopping = false;
  #gone = false;
  readonly #watchers = new Set<() => void>();

  constructor(row: VmRow, tools: DriverTools) {
    this.#row = row;
    this.#tools = tools;
    this.console = new ConsoleFeed({
      live: () => !this.#gone && !isOff(this.state),
      connect: async (listener) => (await this.#open(listener)).connection,
      control: () => this.#connection,
    });
  }

  get uuid(): string {
    return this.#row.definition.uuid;
  }

  get name(): string {
    return this.#row.definition.name;
  }

  get state(): VmPower {
    return this.#row.status.state;
  }

  get hasConsole(): boolean {
    const { com1, com2 } = this.#row.definition.serial;
    return com1.backend === "console" || com2.backend === "console";
  }

  view(): VmView {
    const { definition, generation, created, changed, status, process } = this.#row;
    const pid = process?.pid ?? 0;
    return {
      uuid: definition.uuid,
      name: definition.name,
      generation,
      definition,
      status: { ...status, ...(pid === 0 ? {} : { pid }) },
      created: new Date(created).toISOString(),
      changed: new Date(changed).toISOString(),
    };
  }

  /** Carries the verb out, or throws VM_STATE_FORBIDS; resolves with what the VM is then. */
  request(verb: Verb, options: { timeout?: number } = {}): Promise<VmView> {
    if (verb === "stop") return this.#stop(); // must not wait behind a request that hangs
    return this.#inOrder(async () => {
      if (this.#admitted(verb)) await this.#carryOut(verb, options);
      return this.view();
    });
  }

  /** Runs `change` with the definition while the VM is off, and stores what it returns. */
  change(change: (definition: VmDefinition, generation: number) => VmDefinition): Promise<VmView> {
    return this.#inOrder(async () => {
      this.#admitted("change");
      const definition = change(this.#row.definition, this.#row.generation);
      const generation = this.#row.generation + 1;
      const changed = Date.now();
      this.#tools.registry.updateDefinition(definition, generation, changed);
      this.#row = { ...this.#row, definition, generation, changed };
      return this.view();
    });
  }

  /** Runs `remove` while the VM is off; nothing can be asked of it afterwards. */
  remove(remove: (generation: number) => void): Promise<void> {
    return this.#inOrder(async () => {
      this.#admitted("delete");
      remove(this.#row.generation);
      this.#gone = true;
      this.console.changed();
    });
  }

  /** Resolves once the VM has been in this state, or is off and will not come to it by itself. */
  async waitFor(wanted: VmPower, timeoutSeconds: number): Promise<VmView> {
    await this.#until(() => this.state === wanted || isOff(this.state), timeoutSeconds * 1000);
    return this.view();
  }

  /** The daemon's own connection; throws where no process runs, or it does not answer. */
  connection(purpose: string): VmConnection {
    if (isOff(this.state)) throw new VmError("VM_STATE_FORBIDS", [this.state, purpose]);
    if (this.#connection === undefined)
      throw new VmError("VM_PROCESS_GONE", [this.name, "it does not answer at the moment"]);
    return this.#connection;
  }

  /** After a restart of the daemon: takes the VM's process back, or learns how it ended. */
  async adopt(): Promise<void> {
    const record = this.#row.process;
    if (record !== undefined) await this.#takeBack(record);
    else if (!isOff(this.state))
      this.#setStatus({ state: "failed", detail: "its process was never started" });
  }

  /** The daemon is ending: lets go of the process, which goes on. */
  release(): void {
    this.#gone = true;
    this.#process?.release();
    this.#process = undefined;
    this.#connection?.close();
  }

  #inOrder<T>(work: () => Promise<T>): Promise<T> {
    const next = this.#queue.then(work, work);
    this.#queue = next.catch(() => {});
    return next;
  }

  #admitted(request: Request): boolean {
    if (this.#gone) throw new VmError("VM_NOT_FOUND", [this.name]);
    const verdict = admit(this.state, request);
    if (verdict.kind === "deny") throw new VmError("VM_STATE_FORBIDS", [verdict.state, request]);
    return verdict.kind === "do";
  }

  async #carryOut(verb: Exclude<Verb, "stop">, options: { timeout?: number }): Promise<void> {
    if (verb === "start") return this.#start();
    const connection = this.connection(verb);
    const { timeout } = options;
    const status =
      verb === "shutdown"
        ? await connection.call("shutdown", timeout === undefined ? {} : { timeout })
        : await connection.call(verb, {});
    this.#follow(status);
  }

  /** When it fails nothing has changed for the client: the VM is what it was. */
  async #start(): Promise<void> {
    const before = this.#row.status;
    const nonce = randomUUID();
    this.#stopping = false;
    const folder = this.#tools.folders.prepare(this.#row.definition, nonce);
    // On disk before the process is: whatever happens now, a later daemon knows what to look for.
    this.#record({ nonce, pid: 0, startTime: "", folder }, { state: "starting" });
    try {
      this.#process = spawnVm(folder, nonce);
      this.#record(this.#process.record, { state: "starting" });
      await this.#connectTo(this.#process);
      this.#follow(await this.connection("start").call("start", {}));
      this.#watch(this.#process);
    } catch (error) {
      await this.#abandonStart();
      this.#row = { ...this.#row, process: undefined };
      const { generation: _, ...status } = before;
      this.#setStatus(status);
      throw error;
    }
  }

  async #abandonStart(): Promise<void> {
    const process = this.#process;
    this.#process = undefined;
    this.#dropConnection();
    process?.kill();
    await process?.exit;
  }

  /** Waits for a process that was just started to listen; rejects with its own words if it ends. */
  async #connectTo({ exit, record }: VmProcess): Promise<void> {
    let ended: VmExit | undefined;
    void exit.then((known) => {
      ended = known;
    });
    const deadline = Date.now() + START_TIMEOUT_MS;
    while (!(await this.#connect())) {
      if (ended !== undefined) throw startFailure(this.name, record.folder, record.nonce, ended);
      if (Date.now() > deadline)
        throw new VmError("VM_START_FAILED", [this.name, "its process does not answer"]);
      await sleep(POLL_MS);
    }
  }

  /** Rejects where nobody answers, or another than the process that was started. */
  async #open(listener: VmListener): Promise<{ connection: VmConnection; pid: number }> {
    const path = this.#tools.folders.socket(this.uuid);
    const connection = await VmConnection.open(path, this.name, listener);
    try {
      const { nonce, pid } = await connection.hello();
      if (nonce === this.#row.process?.nonce) return { connection, pid };
      throw new VmError("VM_PROCESS_GONE", [this.name, "another process answers in its place"]);
    } catch (error) {
      connection.close();
      throw error;
    }
  }

  /** One attempt at the connection that controls the VM. */
  async #connect(): Promise<boolean> {
    try {
      const { connection } = await this.#open({ stateChanged: (status) => this.#follow(status) });
      this.#connection = connection;
      void connection.closed.then(() => {
        if (this.#connection === connection) this.#connection = undefined;
      });
      return true;
    } catch {
      return false;
    }
  }

  #dropConnection(): void {
    this.#connection?.close();
    this.#connection = undefined;
  }

  /** Until the process ends: its state is followed, over as many connections as that takes. */
  #watch(process: VmProcess): void {
    void process.exit.then((exit) => {
      if (this.#process === process) this.#ended(exit);
    });
    void this.#keepConnected(process);
  }

  async #keepConnected(process: VmProcess): Promise<void> {
    while (this.#process === process) {
      await this.#connection?.closed;
      if (this.#process !== process) return;
      if (await this.#connect()) await this.#refresh();
      else await sleep(RECONNECT_MS, undefined, { ref: false });
    }
  }

  async #refresh(): Promise<void> {
    try {
      const answer = await this.#connection?.call("state", {});
      if (answer !== undefined) this.#follow(answer.status);
    } catch {
      this.#dropConnection(); // and then a new one
    }
  }

  async #takeBack(recorded: ProcessRecord): Promise<void> {
    const record = recorded.pid === 0 ? await this.#findUnborn(recorded) : recorded;
    if (record === undefined || !isAlive(record)) return this.#endedUnseen(recorded);
    const process = adoptVm(record);
    this.#process = process;
    this.#row = { ...this.#row, process: record };
    if (await this.#connect()) await this.#endNeverStarted();
    await this.#refresh();
    this.#watch(process);
    this.#tools.log.info({ vm: this.name, pid: record.pid }, "taken back");
  }

  /** The earlier daemon died between starting the process and writing down its pid. */
  async #findUnborn({ nonce, folder }: ProcessRecord): Promise<ProcessRecord | undefined> {
    const deadline = Date.now() + UNBORN_MS;
    while (existsSync(folder) && Date.now() < deadline) {
      try {
        const { connection, pid } = await this.#open({});
        connection.close();
        return identify({ nonce, folder, pid });
      } catch {
        await sleep(POLL_MS);
      }
    }
    return undefined;
  }

  #endedUnseen({ folder, nonce }: ProcessRecord): void {
    const exit = exitOf(folder, nonce);
    this.#ended(exit);
    this.#tools.log.warn({ vm: this.name, ...exit }, "ended while no daemon ran");
  }

  /** Its start was never acknowledged; nothing of the guest has run. */
  async #endNeverStarted(): Promise<void> {
    const connection = this.#connection;
    const answer = await connection?.call("state", {}).catch(() => undefined);
    if (answer?.status.state === "created") await connection?.call("stop", {}).catch(() => {});
  }

  async #stop(): Promise<VmView> {
    if (!this.#admitted("stop")) return this.view();
    this.#stopping = true;
    const deadline = Date.now() + STOP_TIMEOUT_MS;
    try {
      await this.connection("stop").call("stop", {}, STOP_TIMEOUT_MS);
    } catch (error) {
      this.#tools.log.warn({ vm: this.name, error: String(error) }, "stop: ending its process");
      this.#process?.kill();
    }
    if (!(await this.#until(() => isOff(this.state), deadline - Date.now()))) {
      this.#process?.kill();
      await this.#until(() => isOff(this.state), STOP_TIMEOUT_MS);
    }
    return this.view();
  }

  /** The last state is told by the end of the process: until then its folder is in use. */
  #follow({ state, generation: _, ...rest }: VmStatus): void {
    if (state === "created") return; // a step on the way of a start
    const { resets } = rest;
    if (state === "stopped" || state === "failed") this.#setStatus({ state: "stopping", resets });
    else this.#setStatus({ state, ...rest });
  }

  #ended(exit: VmExit): void {
    this.#dropConnection();
    this.#process = undefined;
    this.#row = { ...this.#row, process: undefined };
    const killed = this.#stopping && exit.reason === "killed by signal";
    this.#stopping = false;
    this.#setStatus(killed ? STOPPED_BY_FORCE : exit);
    this.#tools.log.info({ vm: this.name, ...exit }, "ended");
  }

  /** Throws where it cannot be stored. */
  #record(process: ProcessRecord, status: NewStatus): void {
    const next = this.#next(status);
    this.#tools.registry.updateStatus(this.uuid, next, process);
    this.#row = { ...this.#row, process };
    this.#publish(next);
  }

  /** What has happened has happened, whether or not it can be stored. */
  #setStatus(status: NewStatus): void {
    const next = this.#next(status);
    try {
      this.#tools.registry.updateStatus(this.uuid, next, this.#row.process);
    } catch (error) {
      this.#tools.log.error({ vm: this.name, error: String(error) }, "its status is not stored");
    }
    this.#publish(next);
  }

  #next(status: NewStatus): VmStatusView {
    const { generation, resets } = this.#row.status;
    return { resets, ...status, generation: generation + 1 };
  }

  #publish(status: VmStatusView): void {
    if (sameStatus(this.#row.status, status)) return;
    this.#row = { ...this.#row, status };
    for (const look of this.#watchers) look();
    this.console.changed();
  }

  /** Looks at every change, so that no state is missed; false when the time is over. */
  #until(reached: () => boolean, timeoutMs: number): Promise<boolean> {
    if (reached()) return Promise.resolve(true);
    return new Promise((resolve) => {
      const finish = (result: boolean): void => {
        clearTimeout(timer);
        this.#watchers.delete(look);
        resolve(result);
      };
      const look = (): void => {
        if (reached()) finish(true);
      };
      const timer = setTimeout(() => finish(false), Math.max(0, timeoutMs));
      this.#watchers.add(look);
    });
  }
}

const STOPPED_BY_FORCE: NewStatus = {
  state: "stopped",
  reason: "stop requested",
  exitStatus: 100,
  detail: "its process did not answer and was ended",
};

const sameStatus = (a: VmStatusView, b: VmStatusView): boolean =>
  JSON.stringify({ ...a, generation: 0 }) === JSON.stringify({ ...b, generation: 0 });
