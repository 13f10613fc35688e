// The runs of one VM: its process started, found again, talked to and ended. What the process says
// of the VM goes into the record; how it ended, whoever ended it, is told once.
import { randomUUID } from "node:crypto";
import { rmSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "pino";
import { readConsoleLog } from "../../api-schema/console-log.js";
import { VmError, type VmStatus } from "../../api-schema/index.js";
import type { Networks } from "../networks/networks.js";
import type { ProcessRecord, VmRow } from "../registry/registry.js";
import { isOff } from "./admission.js";
import { launchDefinition } from "./launch-definition.js";
import { removeLeftBehind } from "./left-behind.js";
import { moveToScope, systemdRuns } from "./scope.js";
import type { VmConnection } from "./vm-connection.js";
import type { VmFolders } from "./vm-folders.js";
import { VmLink } from "./vm-link.js";
import {
  adoptVm,
  exitOf,
  spawnVm,
  startFailure,
  type VmExit,
  type VmProcess,
} from "./vm-process.js";
import type { RowChange, VmRecord } from "./vm-record.js";

const START_TIMEOUT_MS = 20_000;
const STOP_TIMEOUT_MS = 5_000;
/** How long a process that was found may take to answer before it is gone on without it. */
const GREET_MS = 2_000;
/** How soon after its start a process is asked again whether it listens yet. */
const POLL_MS = 5;

export interface RunTools {
  readonly record: VmRecord;
  readonly folders: VmFolders;
  readonly networks: Networks;
  readonly log: Logger;
  /** The process is no more, and why. */
  ended(exit: VmExit): void;
}

const START_TORN: VmExit = {
  state: "failed",
  reason: "start failed",
  exitStatus: 1,
  detail: "the daemon ended while it was being started",
};

const stoppedByUs = (detail: string): VmExit => ({
  state: "stopped",
  reason: "stop requested",
  exitStatus: 100,
  detail,
});

type Before = Pick<VmRow, "power" | "supervision" | "status">;

export class VmRun {
  readonly link: VmLink;
  readonly #tools: RunTools;
  readonly #record: VmRecord;
  #process: VmProcess | undefined;
  /** What the last run left behind is gone. */
  #cleared: Promise<void> = Promise.resolve();
  /** The generation of the newest status that the process has told. */
  #seen = 0;
  /** Its process is being ended by us: a SIGKILL is then no failure of the VM. */
  #ending: "stop" | "kill" | "never started" | undefined;

  constructor(tools: RunTools) {
    this.#tools = tools;
    this.#record = tools.record;
    this.link = new VmLink({
      name: () => this.#record.name,
      socket: () => tools.folders.socket(this.#record.uuid),
      nonce: () => this.#record.row.process?.nonce,
      follow: (status) => this.#follow(status),
    });
  }

  /** A client has asked for the end that comes. */
  get isEnding(): boolean {
    return this.#ending === "stop" || this.#ending === "kill";
  }

  /** The daemon's own connection; throws where no process runs, or it does not answer. */
  connection(purpose: string): VmConnection {
    const { state, name } = this.#record;
    if (isOff(state)) throw new VmError("VM_STATE_FORBIDS", [state, purpose]);
    if (this.link.connection === undefined)
      throw new VmError("VM_PROCESS_GONE", [name, "it does not answer at the moment"]);
    return this.link.connection;
  }

  /** `change` is stored with the start. When it fails nothing has changed, and it throws. */
  async start(change: RowChange, more: { restarts: number }): Promise<void> {
    const { row } = this.#record;
    const before = { power: row.power, supervision: row.supervision, status: row.status };
    const nonce = randomUUID();
    this.#ending = undefined;
    this.#seen = 0;
    const definition = launchDefinition(row.definition, this.#tools.networks);
    const folder = this.#tools.folders.prepare(definition, nonce);
    const consoleStart = readConsoleLog(this.#tools.folders.console(this.#record.uuid), 0, 0).end;
    const process = { nonce, pid: 0, startTime: "", folder, consoleStart };
    const status = { state: "starting", resets: 0, ...more } as const;
    // On disk before the process is: whatever happens now, a later daemon knows what to look for.
    this.#record.store({ ...change, status, process });
    try {
      await this.#cleared;
      this.#process = spawnVm({ nonce, folder, consoleStart });
      this.#record.store({ process: this.#process.record });
      if (systemdRuns()) void this.#enterScope(this.#process.record.pid);
      await this.#connectTo(this.#process);
      this.#follow(await this.connection("start").call("start", {}));
      this.#watchEnd(this.#process);
      void this.link.keep();
    } catch (error) {
      await this.#abandonStart();
      this.#record.note({ ...this.#afterFailedStart(before, change), process: null });
      throw error;
    }
  }

  /** Beside the start, which does not wait for it. */
  async #enterScope(pid: number): Promise<void> {
    const { uuid, name } = this.#record;
    const why = pid === 0 ? undefined : await moveToScope({ pid, uuid, name });
    if (why !== undefined) this.#tools.log.warn({ vm: name, pid, why }, "it has no scope");
  }

  /** After a restart of the daemon: takes the process back, or learns how it ended. */
  async adopt(found: ProcessRecord | undefined): Promise<void> {
    if (found === undefined) return this.#endedUnseen();
    const process = adoptVm(found);
    this.#seen = 0;
    this.#process = process;
    this.#record.note({ process: found });
    this.#watchEnd(process);
    // One that does not answer holds up neither the daemon nor the other VMs.
    await Promise.race([this.#greet(process), sleep(GREET_MS, undefined, { ref: false })]);
    this.#tools.log.info({ vm: this.#record.name, pid: found.pid }, "taken back");
  }

  /** Asks the process to end at once, and ends it where it does not. */
  async stop(): Promise<void> {
    this.#ending ??= "stop";
    const deadline = Date.now() + STOP_TIMEOUT_MS;
    try {
      await this.connection("stop").call("stop", {}, STOP_TIMEOUT_MS);
    } catch (error) {
      const { name } = this.#record;
      this.#tools.log.warn({ vm: name, error: String(error) }, "stop: ending its process");
      this.#process?.kill();
    }
    if (await this.#untilOff(deadline - Date.now())) return;
    this.#process?.kill();
    await this.#untilOff(STOP_TIMEOUT_MS);
  }

  /** SIGKILL, whatever it is doing. */
  async kill(): Promise<void> {
    this.#ending = "kill";
    this.#process?.kill();
    await this.#untilOff(STOP_TIMEOUT_MS);
  }

  /** The daemon ends; the process goes on. */
  release(): void {
    this.#process?.release();
    this.#process = undefined;
    this.link.drop();
  }

  #untilOff(timeoutMs: number): Promise<boolean> {
    return this.#record.until(() => isOff(this.#record.state), timeoutMs);
  }

  /** What it was before; a stop that came meanwhile stands. */
  #afterFailedStart(before: Before, change: RowChange): RowChange {
    const { power } = this.#record.row;
    if (power === (change.power ?? before.power)) return before;
    const { nextStart: _, crashLoop: __, ...status } = before.status;
    return { ...before, power, status };
  }

  async #abandonStart(): Promise<void> {
    const process = this.#process;
    this.#process = undefined;
    this.link.drop();
    process?.kill();
    await process?.exit;
    this.#removeNames();
  }

  /** Waits for a process that was just started to listen; rejects with its own words if it ends. */
  async #connectTo({ exit, record }: VmProcess): Promise<void> {
    let ended: VmExit | undefined;
    void exit.then((known) => {
      ended = known;
    });
    const { name } = this.#record;
    const deadline = Date.now() + START_TIMEOUT_MS;
    while (!(await this.link.connect())) {
      if (ended !== undefined) throw startFailure(name, record.folder, record.nonce, ended);
      if (Date.now() > deadline)
        throw new VmError("VM_START_FAILED", [name, "its process does not answer"]);
      await sleep(POLL_MS);
    }
  }

  #watchEnd(process: VmProcess): void {
    void process.exit.then((exit) => {
      if (this.#process === process) this.#ended(exit);
    });
  }

  /** Learns what the process is doing, and follows it from then on. */
  async #greet(process: VmProcess): Promise<void> {
    if (await this.link.connect()) await this.#endNeverStarted();
    await this.link.refresh();
    if (this.#process === process) void this.link.keep();
  }

  #endedUnseen(): void {
    const { process } = this.#record.row;
    if (process === undefined) return;
    const exit = this.#unseen(exitOf(process.folder, process.nonce));
    this.#tools.log.warn({ vm: this.#record.name, ...exit }, "ended while no daemon ran");
    this.#ended(exit);
  }

  /** Without last words: what an earlier daemon had begun to do says what it was. */
  #unseen(exit: VmExit): VmExit {
    if (exit.reason !== "killed by signal") return exit;
    if (this.#record.row.power === "stopped") return stoppedByUs("its process was ended");
    return this.#record.state === "starting" ? START_TORN : exit;
  }

  /** Its start was never acknowledged; nothing of the guest has run. */
  async #endNeverStarted(): Promise<void> {
    const { connection } = this.link;
    const answer = await connection?.call("state", {}).catch(() => undefined);
    if (answer?.status.state !== "created") return;
    this.#ending = "never started";
    await connection?.call("stop", {}).catch(() => {});
  }

  /** The last state is told by the end of the process: until then its folder is in use. */
  #follow({ state, generation, ...rest }: VmStatus): void {
    // An answer may come after the notice of what came after it.
    if (generation < this.#seen) return;
    this.#seen = generation;
    if (state === "created") return; // a step on the way of a start
    const { resets } = rest;
    if (state === "stopped" || state === "failed") {
      this.#record.note({ status: { state: "stopping", resets } });
      return;
    }
    const begins = state === "running" && this.#record.state === "starting";
    const started = begins ? { started: new Date().toISOString() } : {};
    this.#record.note({ status: { ...rest, state, ...started } });
  }

  #ended(exit: VmExit): void {
    this.link.drop();
    this.#process = undefined;
    this.#removeNames();
    const told = this.#told(exit);
    this.#tools.log.info({ vm: this.#record.name, ...told }, "ended");
    this.#tools.ended(told);
    this.#ending = undefined;
  }

  /** What its end means, since we may have been the ones who ended it. */
  #told(exit: VmExit): VmExit {
    if (this.#ending === "never started") return START_TORN;
    if (this.#ending === undefined || exit.reason !== "killed by signal") return exit;
    return stoppedByUs(
      this.#ending === "kill"
        ? "its process was killed"
        : "its process did not answer and was ended",
    );
  }

  /** A process that was killed leaves its names behind, and so does one of another user. */
  #removeNames(): void {
    this.#cleared = removeLeftBehind(this.#record.definition);
    rmSync(this.#tools.folders.socket(this.#record.uuid), { force: true });
  }
}
