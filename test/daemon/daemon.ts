// A real daemon for tests: dist/'s, on a temporary folder, with guests of test/daemon/guests.ts.
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Problem, VmPower, VmView } from "../../api-schema/index.js";
import { Client } from "../../daemon/cli/client.js";
import { projectRoot } from "../guest/paths.js";
import { type Guest, guests } from "./guests.js";
import { isAlive, kill, processesIn } from "./processes.js";

export interface RawAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly text: string;
}

interface RawOptions {
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Buffer;
}

const START_TIMEOUT_MS = 120_000;
/** What comes at once on a quiet host may take this long on one whose CPUs others have. */
const WAIT_S = 60;

export class TestDaemon {
  /** Holds state and runtime folders; kept over restart(). */
  readonly folder: string;
  readonly client: Client;
  readonly #args: readonly string[];
  #process: ChildProcess | undefined;
  #output = "";

  private constructor(folder: string, args: readonly string[]) {
    this.folder = folder;
    this.#args = args;
    this.client = new Client({ socket: this.socket });
  }

  static async start(
    args: readonly string[] = [],
    folder = temporaryFolder(),
  ): Promise<TestDaemon> {
    const daemon = new TestDaemon(folder, args);
    for (const name of Object.keys(guests)) daemon.guestFile(name as Guest);
    await daemon.launch();
    return daemon;
  }

  /** As start(), with the daemon of another checkout; launch() then starts this one's. */
  static async startOther(root: string): Promise<TestDaemon> {
    const daemon = new TestDaemon(temporaryFolder(), []);
    for (const name of Object.keys(guests)) daemon.guestFile(name as Guest);
    await daemon.launch(root);
    return daemon;
  }

  get socket(): string {
    return join(this.folder, "run", "xhyved.sock");
  }
  get pid(): number {
    return this.#process?.pid ?? 0;
  }
  /** What it has printed: its log. */
  get output(): string {
    return this.#output;
  }

  /** The path of a guest's image. */
  guestFile(name: Guest): string {
    return this.file(`${name}.bin`, guests[name]);
  }

  file(name: string, content: string | Buffer): string {
    const path = join(this.folder, name);
    writeFileSync(path, content);
    return path;
  }

  /** `root`: the checkout whose daemon is started, where it is not this one. */
  async launch(root = projectRoot): Promise<void> {
    const child = spawnDaemon(this.folder, this.#args, root);
    this.#process = child;
    const hear = (data: Buffer): void => {
      this.#output += data.toString();
    };
    child.stdout?.on("data", hear);
    child.stderr?.on("data", hear);
    const deadline = Date.now() + START_TIMEOUT_MS;
    while (!(await this.#answers())) {
      if (child.exitCode !== null || Date.now() > deadline)
        throw new Error(`the daemon did not start: ${this.#output}`);
      await sleep(20);
    }
  }

  async kill(signal: NodeJS.Signals): Promise<void> {
    const child = this.#process;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((resolve) => child.once("exit", resolve));
    child.kill(signal);
    await gone;
  }

  /** Leaves no process and no file behind, whatever the test did. */
  async end(): Promise<void> {
    await this.killAll();
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** The daemon and its VMs. */
  async killAll(): Promise<void> {
    await this.kill("SIGKILL");
    await eventually(() => {
      const left = processesIn(join(this.folder, "run", "vm"));
      for (const pid of left) kill(pid);
      return left.length === 0;
    });
  }

  vmPids(): number[] {
    const folder = join(this.folder, "run", "vm");
    try {
      return readdirSync(folder)
        .filter((vm) => existsSync(join(folder, vm, "lock")))
        .map((vm) => Number(readFileSync(join(folder, vm, "lock"), "utf8")))
        .filter((pid) => pid > 1); // empty where no process ever came
    } catch {
      return [];
    }
  }

  /** A VM with one of the guests. */
  create(name: string, guest: Guest, more: object = {}): Promise<VmView> {
    const boot = { kind: "multiboot", kernel: join(this.folder, `${guest}.bin`) };
    return this.client.json("POST", "/vms", { name, memory: 16 * 2 ** 20, boot, ...more });
  }

  vm(name: string): Promise<VmView> {
    return this.client.json("GET", `/vms/${name}`);
  }

  start(name: string, wait?: VmPower): Promise<VmView> {
    const query = wait === undefined ? "" : `?wait=${wait}&timeout=${WAIT_S}`;
    return this.client.json("POST", `/vms/${name}/start${query}`);
  }

  async run(name: string, guest: Guest, more: object = {}): Promise<VmView> {
    await this.create(name, guest, more);
    return this.start(name);
  }

  async history(name: string): Promise<Buffer> {
    const parts: Buffer[] = [];
    for (let offset = 0; ; ) {
      const { body } = await this.client.raw("GET", `/vms/${name}/console?offset=${offset}`);
      if (body.length === 0) return Buffer.concat(parts);
      parts.push(body);
      offset += body.length;
    }
  }

  raw(method: string, path: string, { headers = {}, body }: RawOptions = {}): Promise<RawAnswer> {
    return rawRequest({ socketPath: this.socket }, method, path, {
      headers,
      ...(body && { body }),
    });
  }

  /** The problem document of a request that must be refused. */
  async refusal(method: string, path: string, body?: unknown): Promise<Problem> {
    const answer = await this.raw(method, `/v1${path}`, {
      ...(body === undefined
        ? {}
        : { headers: { "content-type": "application/json" }, body: JSON.stringify(body) }),
    });
    return problemOf(answer);
  }

  async #answers(): Promise<boolean> {
    try {
      await this.client.json("GET", "/vms");
      return true;
    } catch {
      return false;
    }
  }
}

export const temporaryFolder = (): string => mkdtempSync(join(tmpdir(), "xh-"));

export function spawnDaemon(
  folder: string,
  args: readonly string[] = [],
  root = projectRoot,
): ChildProcess {
  const folders = ["--state-dir", join(folder, "state"), "--runtime-dir", join(folder, "run")];
  const program = join(root, "bin", "xhyved");
  return spawn(process.execPath, [program, ...folders, ...args], {
    stdio: ["ignore", "pipe", "pipe"],
    // Switches of its own, whoever else has one of the same name on this host.
    env: { ...process.env, XHYVED_NETWORKS: join(folder, "networks") },
  });
}

/** Exit status and all that it printed, of a daemon that must not start. */
export async function refusedStart(
  folder: string,
  args: readonly string[] = [],
): Promise<{ status: number | null; text: string }> {
  const child = spawnDaemon(folder, args);
  let text = "";
  child.stderr?.on("data", (data: Buffer) => {
    text += data.toString();
  });
  const status = await new Promise<number | null>((resolve) => child.once("close", resolve));
  return { status, text };
}

export function problemOf({ status, text, headers }: RawAnswer): Problem {
  if (status < 400) throw new Error(`accepted with ${status}: ${text}`);
  if (!String(headers["content-type"]).startsWith("application/problem+json"))
    throw new Error(`no problem document: ${headers["content-type"]}: ${text}`);
  const problem = JSON.parse(text) as Problem;
  if (problem.status !== status) throw new Error(`status ${status}, but ${text}`);
  return problem;
}

export function rawRequest(
  target: { readonly socketPath: string } | { readonly host: string; readonly port: number },
  method: string,
  path: string,
  { headers = {}, body }: RawOptions = {},
): Promise<RawAnswer> {
  return new Promise((resolve, reject) => {
    const sent = request({ ...target, method, path, headers, agent: false }, (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("end", () =>
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers,
          text: Buffer.concat(chunks).toString(),
        }),
      );
    });
    sent.on("error", reject);
    sent.end(body);
  });
}

/** Until `look` gives something else than undefined or false. */
export async function eventually<T>(
  look: () => Promise<T | undefined | false> | T | undefined | false,
  seconds = WAIT_S,
): Promise<T> {
  const deadline = Date.now() + seconds * 1000;
  for (;;) {
    const found = await look();
    if (found !== undefined && found !== false) return found;
    if (Date.now() > deadline) throw new Error(`not within ${seconds} s`);
    await sleep(20);
  }
}

/** Ends a VM's process, as if it had failed; resolves when the host knows it no more. */
export async function killed(pid: number | undefined): Promise<void> {
  if (pid === undefined) throw new Error("the VM has no process");
  kill(pid);
  await eventually(() => !isAlive(pid));
}
