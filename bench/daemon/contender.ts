// One server that is measured, ours or the bare one: a process, and requests over its socket.
import { type ChildProcess, spawn } from "node:child_process";
import { Agent, request } from "node:http";
import { connect } from "node:net";
import { performance } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";

const START_LIMIT_MS = 60_000;

export class Contender {
  readonly socket: string;
  /** Milliseconds from its start until the first answer. */
  readonly startMs: number;
  readonly #child: ChildProcess;
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 1 });

  private constructor(child: ChildProcess, socket: string, startMs: number) {
    this.#child = child;
    this.socket = socket;
    this.startMs = startMs;
  }

  static async start(args: readonly string[], socket: string): Promise<Contender> {
    const began = performance.now();
    const child = spawn(process.execPath, args, { stdio: ["ignore", "ignore", "inherit"] });
    while (!(await accepts(socket))) {
      if (performance.now() - began > START_LIMIT_MS || child.exitCode !== null)
        throw new Error(`${args.join(" ")} does not start`);
      await sleep(2);
    }
    return new Contender(child, socket, performance.now() - began);
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Rejects where the answer is no success. */
  ask(method: string, path: string, body?: object): Promise<string> {
    const text = body === undefined ? undefined : JSON.stringify(body);
    const type = text === undefined ? {} : { "content-type": "application/json" };
    const options = { socketPath: this.socket, agent: this.#agent, method, path, headers: type };
    return new Promise((resolve, reject) => {
      const sent = request(options, (answer) => {
        let all = "";
        answer.setEncoding("utf8");
        answer.on("data", (chunk: string) => {
          all += chunk;
        });
        answer.on("end", () => {
          if ((answer.statusCode ?? 500) < 400) resolve(all);
          else reject(new Error(`${method} ${path}: ${answer.statusCode} ${all}`));
        });
      });
      sent.on("error", reject);
      sent.end(text);
    });
  }

  /** Calls `heard` for each event; resolves when the stream is open. */
  watch(path: string, heard: () => void): Promise<() => void> {
    return new Promise((resolve, reject) => {
      const sent = request({ socketPath: this.socket, path }, (answer) => {
        answer.on("error", () => {});
        answer.on("data", (chunk: Buffer) => {
          if (chunk.includes("data: ")) heard();
        });
        resolve(() => answer.destroy());
      });
      sent.on("error", reject);
      sent.end();
    });
  }

  async end(): Promise<void> {
    const gone = new Promise((resolve) => this.#child.once("exit", resolve));
    this.#agent.destroy();
    this.#child.kill("SIGKILL");
    await gone;
  }
}

const accepts = (path: string): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(path);
    const done = (answer: boolean) => (): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.once("connect", done(true));
    socket.once("error", done(false));
  });
