// One VM as the daemon knows it: its definition, its status, its process. The driver owns that
// state; requests go through admission, one at a time, in order. Whatever ends the process, and
// however, the driver finds out: by its child's exit, or for a VM taken over from an earlier
// daemon by the end of the connection.
import { randomUUID } from "node:crypto";
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
import { exitOfUnwatched, spawnVm, type VmChild, type VmExit } from "./vm-child.js";
import { VmConnection } from "./vm-connection.js";
import type { VmFolders } from "./vm-folders.js";

export interface DriverTools {
  readonly registry: Registry;
  readonly folders: VmFolders;
  readonly log: Logger;
}

const STOP_WAIT_MS = 10_000;

export class VmDriver {
  readonly #tools: DriverTools;
  #row: VmRow;
  #connection: VmConnection | undefined;
  #child: VmChild | undefined;
  #queue: Promise<unknown> = Promise.resolve();
  readonly #watchers = new Set<() => void>();

  constructor(row: VmRow, tools: DriverTools) {
    this.#row = row;
    this.#tools = tools;
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

  view(): VmView {
    const { definition, generation, created, changed, status, process } = this.#row;
    return {
      uuid: definition.uuid,
      name: definition.name,
      generation,
      definition,
      status: { ...status, ...(process === undefined ? {} : { pid: process.pid }) },
      created: new Date(created).toISOString(),
      changed: new Date(changed).toISOString(),
    };
  }

  /** Carries the verb out, or throws VM_STATE_FORBIDS; resolves with what the VM is then. */
  request(verb: Verb, options: { timeout?: number } = {}): Promise<VmView> {
    if (verb === "stop") return this.#stopNow(); // must not wait behind a request that hangs
    return this.#inOrder(async () => {
      if (this.#admitted(verb)) await this.#carryOut(verb, options);
      return this.view();
    });
  }

  /** Runs `change` with the definition while the VM is off, and stores what it returns. */
  change(change: (definition: VmDefinition) => VmDefinition): Promise<VmView> {
    return this.#inOrder(async () => {
      this.#admitted("change");
      const definition = change(this.#row.definition);
      const generation = this.#row.generation + 1;
      const changed = Date.now();
      this.#tools.registry.updateDefinition(definition, generation, changed);
      this.#row = { ...this.#row, definition, generation, changed };
      return this.view();
    });
  }

  /** Runs `remove` while the VM is off. */
  remove(remove: () => void): Promise<void> {
    return this.#inOrder(async () => {
      this.#admitted("delete");
      remove();
    });
  }

  /** Resolves once the VM is in this state, or in one that does not lead there by itself. */
  async waitFor(wanted: VmPower, timeoutSeconds: number): Promise<VmView> {
    const deadline = Date.now() + timeoutSeconds * 1000;
    while (this.state !== wanted && Date.now() < deadline) await this.#nextChange(deadline);
    return this.view();
  }

  /** A connection of its own for a client that follows the console. */
  async openConnection(listener: Parameters<typeof VmConnection.open>[2]): Promise<VmConnection> {
    const record = this.#row.process;
    if (record === undefined || isOff(this.state))
      throw new VmError("VM_STATE_FORBIDS", [this.state, "be talked to"]);
    const connection = await VmConnection.open(
      this.#tools.folders.socket(this.uuid),
      this.name,
      listener,
    );
    await connection.hello();
    return connection;
  }

  /** The daemon's own connection; throws VM_STATE_FORBIDS where no process runs. */
  connection(purpose: string): VmConnection {
    if (this.#connection === undefined)
      throw new VmError("VM_STATE_FORBIDS", [this.state, purpose]);
    return this.#connection;
  }

  /** After a restart of the daemon: takes the VM's process back, or learns how it ended. */
  async adopt(): Promise<void> {
    const record = this.#row.process;
    if (record === undefined) {
      if (!isOff(this.state))
        this.#setStatus({ state: "failed", detail: "its process was never started" });
      return;
    }
    try {
      await this.#connect(record);
      this.#tools.log.info({ vm: this.name, pid: record.pid }, "taken back");
      void this.#watchAdopted(record);
    } catch (error) {
      this.#tools.log.warn({ vm: this.name, error: String(error) }, "its process is gone");
      this.#ended(exitOfUnwatched(this.#tools.folders.of(this.uuid), record));
    }
  }

  /** The daemon is ending: lets go of the process, which goes on. */
  release(): void {
    this.#child?.release();
    this.#child = undefined;
    this.#connection?.close();
    this.#connection = undefined;
  }

  #inOrder<T>(work: () => Promise<T>): Promise<T> {
    const next = this.#queue.then(work, work);
    this.#queue = next.catch(() => {});
    return next;
  }

  #admitted(request: Request): boolean {
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

  async #start(): Promise<void> {
    const before = this.#row.status;
    const nonce = randomUUID();
    this.#setStatus({ state: "starting" });
    try {
      const folder = this.#tools.folders.prepare(this.#row.definition, nonce);
      this.#child = await spawnVm(folder, nonce, (exit) => this.#ended(exit));
      this.#setProcess(this.#child.record);
      await this.#connect(this.#child.record);
      this.#follow(await this.connection("start").call("start", {}));
    } catch (error) {
      await this.#abandonStart();
      // Nothing has changed for the client: the VM is what it was, and the answer says why.
      this.#setStatus({ ...before, generation: undefined });
      throw error;
    }
  }

  async #abandonStart(): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    this.#connection?.close();
    this.#connection = undefined;
    await child?.kill();
    this.#setProcess(undefined);
  }

  async #connect(record: ProcessRecord): Promise<void> {
    const connection = await VmConnection.open(this.#tools.folders.socket(this.uuid), this.name, {
      stateChanged: (status) => this.#follow(status),
    });
    const hello = await connection.hello();
    if (hello.nonce !== record.nonce || hello.pid !== record.pid) {
      connection.close();
      throw new VmError("VM_PROCESS_GONE", [this.name, "another process answers in its place"]);
    }
    this.#connection = connection;
    const { status } = await connection.call("state", {});
    this.#follow(status);
  }

  /** An adopted process is no child of ours: the end of the connection says that it ended. */
  async #watchAdopted(record: ProcessRecord): Promise<void> {
    const connection = this.#connection;
    await connection?.closed;
    if (this.#connection !== connection || connection === undefined) return;
    this.#ended(await exitOfUnwatched(this.#tools.folders.of(this.uuid), record));
  }

  async #stopNow(): Promise<VmView> {
    if (!this.#admitted("stop")) return this.view();
    const child = this.#child;
    try {
      const status = await this.connection("stop").call("stop", {});
      this.#follow(status);
    } catch (error) {
      this.#tools.log.warn({ vm: this.name, error: String(error) }, "stop: ending its process");
      await child?.kill();
    }
    await this.#untilOff();
    return this.view();
  }

  async #untilOff(): Promise<void> {
    const deadline = Date.now() + STOP_WAIT_MS;
    while (!isOff(this.state) && Date.now() < deadline) await this.#nextChange(deadline);
  }

  #follow(status: VmStatus): void {
    // "created" is a step on the way of a start; the last states are told by the process's end.
    if (status.state === "created") return;
    const { reason, exitStatus, detail, resets } = status;
    this.#setStatus({
      state: status.state,
      resets,
      ...(reason === undefined ? {} : { reason }),
      ...(exitStatus === undefined ? {} : { exitStatus }),
      ...(detail === undefined ? {} : { detail }),
    });
  }

  #ended(exit: VmExit | Promise<VmExit>): void {
    if (exit instanceof Promise) {
      void exit.then((known) => this.#ended(known));
      return;
    }
    this.#connection?.close();
    this.#connection = undefined;
    this.#child = undefined;
    this.#row = { ...this.#row, process: undefined };
    this.#setStatus(exit);
    this.#tools.log.info({ vm: this.name, ...exit }, "ended");
  }

  #setProcess(process: ProcessRecord | undefined): void {
    this.#row = { ...this.#row, process };
    this.#tools.registry.updateStatus(this.uuid, this.#row.status, process);
  }

  #setStatus(
    status: Omit<VmStatusView, "generation" | "resets" | "pid"> & {
      resets?: number;
      generation?: undefined;
    },
  ): void {
    const { generation: _, ...rest } = status;
    const before = this.#row.status;
    const next: VmStatusView = {
      resets: before.resets,
      ...rest,
      generation: before.generation + 1,
    };
    if (sameStatus(before, next)) return;
    this.#row = { ...this.#row, status: next };
    this.#tools.registry.updateStatus(this.uuid, next, this.#row.process);
    for (const wake of this.#watchers) wake();
  }

  #nextChange(deadline: number): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        this.#watchers.delete(done);
        resolve();
      };
      const timer = setTimeout(done, Math.max(0, deadline - Date.now()));
      this.#watchers.add(done);
    });
  }
}

const sameStatus = (a: VmStatusView, b: VmStatusView): boolean =>
  JSON.stringify({ ...a, generation: 0 }) === JSON.stringify({ ...b, generation: 0 });
