// Whether a guest is ready for what it is there for, by the probes of its definition: looked at
// while it runs until all have held since its start or last reset.
import { connect, type Socket } from "node:net";
import { readConsoleLog } from "../../api-schema/console-log.js";
import type { ReadinessProbe, VmDefinition } from "../../api-schema/index.js";
import type { VmRecord } from "./vm-record.js";

const DEFAULT_INTERVAL = 1;
const CONNECT_MS = 2_000;
const CHUNK = 256 * 1024;

export class Readiness {
  readonly #record: VmRecord;
  /** Of the console's history. */
  readonly #console: string;
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;
  /** Of which run, reset and probes the following speaks. */
  #of = "";
  #held = new Set<number>();
  #scanned = 0;

  constructor(record: VmRecord, console: string) {
    this.#record = record;
    this.#console = console;
  }

  /** Something has changed: begins to look, or ends it. */
  look(): void {
    if (!this.#wanted()) {
      clearTimeout(this.#timer);
      this.#timer = undefined;
      return;
    }
    this.#renew();
    this.#timer ??= setTimeout(() => void this.#probe(), 0).unref();
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  #wanted(): boolean {
    const { status, definition } = this.#record;
    const { readiness } = definition;
    return (
      !this.#stopped && readiness.length > 0 && status.state === "running" && status.ready !== true
    );
  }

  /** What held in an earlier run, or before a reset, says nothing. */
  #renew(): void {
    const { status, definition, row } = this.#record;
    const of = JSON.stringify([row.process?.nonce, status.resets, definition.readiness]);
    if (of === this.#of) return;
    const sameRun = this.#of.includes(row.process?.nonce ?? "?");
    if (!sameRun) this.#scanned = row.process?.consoleStart ?? 0;
    this.#of = of;
    this.#held = new Set();
    if (status.ready === undefined) this.#record.note({ status: { ...status, ready: false } });
  }

  async #probe(): Promise<void> {
    const of = this.#of;
    const { readiness } = this.#record.definition;
    const held = await Promise.all(
      readiness.map((probe, index) => this.#held.has(index) || this.#holds(probe)),
    );
    this.#timer = undefined;
    if (!this.#wanted()) return;
    if (of !== this.#of) return this.look();
    for (const [index, holds] of held.entries()) if (holds) this.#held.add(index);
    const { status } = this.#record;
    if (this.#held.size === readiness.length)
      return this.#record.note({ status: { ...status, ready: true } });
    const seconds = Math.min(...readiness.map(({ interval = DEFAULT_INTERVAL }) => interval));
    this.#timer = setTimeout(() => void this.#probe(), seconds * 1000).unref();
  }

  #holds(probe: ReadinessProbe): boolean | Promise<boolean> {
    switch (probe.kind) {
      case "serial":
        return this.#printed(Buffer.from(probe.text));
      case "tcp":
        return accepts(connect(probe.port, probe.host));
      case "vsock": {
        const path = vsockPath(this.#record.definition);
        return path !== undefined && accepts(connect(path), probe.port);
      }
    }
  }

  /** Reads on from where it was, less what may be the beginning of the text. */
  #printed(text: Buffer): boolean {
    let rest = Buffer.alloc(0);
    for (let at = this.#scanned; ; ) {
      const { offset, bytes } = readConsoleLog(this.#console, at, CHUNK);
      const whole = offset === at ? Buffer.concat([rest, bytes]) : Buffer.from(bytes);
      if (whole.includes(text)) return true;
      if (bytes.length === 0) return false;
      rest = whole.subarray(Math.max(0, whole.length - text.length + 1));
      at = offset + bytes.length;
      this.#scanned = at - rest.length;
    }
  }
}

/** Where the host meets the guest's virtio sockets: a Unix socket, `CONNECT port` first. */
function vsockPath({ devices }: VmDefinition): string | undefined {
  const found: object | undefined = devices.find(({ type }) => /^virtio-v?sock$/.test(type));
  const path: unknown = found !== undefined && "path" in found ? found.path : undefined;
  return typeof path === "string" ? path : undefined;
}

/** `vsock`: the port to ask for, and the answer that says that the guest has accepted. */
function accepts(socket: Socket, vsock?: number): Promise<boolean> {
  return new Promise((resolve) => {
    const finish = (result: boolean): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(result);
    };
    const timer = setTimeout(() => finish(false), CONNECT_MS);
    socket.once("error", () => finish(false));
    socket.once("close", () => finish(false));
    socket.once("connect", () => {
      if (vsock === undefined) return finish(true);
      socket.write(`CONNECT ${vsock}\n`);
      socket.once("data", (answer: Buffer) => finish(answer.toString("latin1").startsWith("OK ")));
    });
  });
}
