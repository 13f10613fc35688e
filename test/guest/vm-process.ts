// A VM process without a daemon, for tests: starts it on a folder of its own, talks to it over its
// socket.
import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { readConsoleLog } from "../../api-schema/console-log.js";
import { type LaunchFile, runtimeFiles, type VmDefinition } from "../../api-schema/index.js";
import { VmConnection } from "../../daemon/supervisor/vm-connection.js";
import { projectRoot } from "./paths.js";

const PROGRAM = join(projectRoot, "dist", "vmm", "process", "main.js");
const READY_MS = 120_000;
const POLL_MS = 20;

export interface LaunchOptions {
  readonly folder: string;
  readonly definition: VmDefinition;
  /** The console's history, shared by the processes that continue one guest. */
  readonly console: string;
  /** A folder of saveState to go on from. */
  readonly restore?: string;
  /** Words before the command: another user, another network. */
  readonly within?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
}

export class VmProcess {
  readonly #child: ChildProcess;
  readonly connection: VmConnection;
  readonly #console: string;

  private constructor(child: ChildProcess, connection: VmConnection, console: string) {
    this.#child = child;
    this.connection = connection;
    this.#console = console;
  }

  static async launch(options: LaunchOptions): Promise<VmProcess> {
    const { folder, definition, console, restore, within = [], environment } = options;
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    const launch: LaunchFile = {
      nonce: folder,
      definition,
      start: false,
      onReset: "restart",
      console: { file: console, limit: 16 * 2 ** 20 },
      linger: 0,
      confine: true,
      ...(restore === undefined ? {} : { restore }),
    };
    writeFileSync(join(folder, runtimeFiles.launch), JSON.stringify(launch));
    const log = openSync(join(folder, "process.log"), "a");
    const [program = "", ...words] = [...within, process.execPath, PROGRAM, folder];
    const env = { ...process.env, ...environment };
    const child = spawn(program, words, { stdio: ["ignore", log, log], env });
    const socket = join(folder, runtimeFiles.socket);
    const connection = await connected(socket, definition.name, child, folder);
    await connection.hello();
    return new VmProcess(child, connection, console);
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** All that is kept of the guest's output. */
  output(): string {
    const parts: Buffer[] = [];
    for (let offset = 0; ; ) {
      const read = readConsoleLog(this.#console, offset, 2 ** 20);
      if (read.bytes.length === 0) return Buffer.concat(parts).toString("latin1");
      parts.push(Buffer.from(read.bytes));
      offset = read.offset + read.bytes.length;
    }
  }

  async waitFor(text: string, seconds: number): Promise<void> {
    const deadline = Date.now() + seconds * 1000;
    while (!this.output().includes(text)) {
      if (Date.now() > deadline)
        throw new Error(
          `no ${JSON.stringify(text)} within ${seconds} s: ${this.output().slice(-600)}`,
        );
      await pause(POLL_MS);
    }
  }

  type(text: string): Promise<unknown> {
    return this.connection.call("consoleWrite", { data: Buffer.from(text).toString("base64") });
  }

  /** Kills the process and resolves when it is gone. */
  async kill(): Promise<void> {
    const gone = new Promise((resolve) => this.#child.once("exit", resolve));
    this.#child.kill("SIGKILL");
    await gone;
    this.connection.close();
  }

  /** Ends the process and resolves when it is gone. */
  async end(): Promise<void> {
    const gone = new Promise((resolve) => this.#child.once("exit", resolve));
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    await this.connection.call("stop", {}).catch(() => this.#child.kill("SIGKILL"));
    await gone;
    this.connection.close();
  }
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** The socket's file is there a moment before anybody listens on it. */
async function connected(
  socket: string,
  name: string,
  child: ChildProcess,
  folder: string,
): Promise<VmConnection> {
  const deadline = Date.now() + READY_MS;
  for (;;) {
    try {
      return await VmConnection.open(socket, name);
    } catch {
      if (child.exitCode !== null || Date.now() > deadline)
        throw new Error(
          `the VM process did not start: ${readFileSync(join(folder, "process.log"), "utf8")}`,
        );
      await pause(POLL_MS);
    }
  }
}
