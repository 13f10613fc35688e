// One connection to a VM process: JSON-RPC 2.0, a line each way (api-schema/vm-rpc.ts). The other
// side runs a guest that may have taken it over: what it says is checked as a client's words are.
import { randomUUID } from "node:crypto";
import { closeSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { dirname, join } from "node:path";
import {
  asVmError,
  isErrorCode,
  MAX_LINE,
  MIN_VM_PROTOCOL,
  PROTOCOL_WITH_FILES,
  parse,
  reasonOf,
  runtimeFiles,
  VM_PROTOCOL,
  VmError,
  type VmMethod,
  type VmNotice,
  type VmNotification,
  type VmParams,
  type VmResult,
  vmMethods,
  vmNotifications,
} from "../../api-schema/index.js";
import { descriptorOf, host } from "../../native/host.js";

const CALL_TIMEOUT_MS = 30_000;
const HELLO_TIMEOUT_MS = 3_000;

export type VmListener = { [N in VmNotification]?: (notice: VmNotice<N>) => void };

interface Waiting {
  readonly method: VmMethod;
  readonly resolve: (value: never) => void;
  readonly reject: (error: Error) => void;
  readonly timer: NodeJS.Timeout;
}

interface Line {
  readonly id?: number;
  readonly method?: VmNotification;
  readonly params?: unknown;
  readonly result?: unknown;
  readonly error?: { message?: unknown; data?: { code?: unknown; details?: unknown } };
}

export class VmConnection {
  /** Resolves when the connection is no more. */
  readonly closed: Promise<void>;
  readonly #socket: Socket;
  readonly #files: string;
  readonly #name: string;
  readonly #listener: VmListener;
  readonly #waiting = new Map<number, Waiting>();
  #protocol: number = VM_PROTOCOL;
  #nextId = 1;
  #buffer = "";
  #isClosed = false;

  private constructor(socket: Socket, path: string, name: string, listener: VmListener) {
    this.#socket = socket;
    this.#files = join(dirname(path), runtimeFiles.files);
    this.#name = name;
    this.#listener = listener;
    socket.setEncoding("utf8");
    socket.on("data", (text: string) => this.#receive(text));
    socket.on("error", () => {}); // "close" follows
    this.closed = new Promise((resolve) => {
      socket.on("close", () => {
        this.#isClosed = true;
        this.#failAll(new VmError("VM_PROCESS_GONE", [name, "the connection closed"]));
        resolve();
      });
    });
  }

  /** Rejects where nobody listens. Changes of state are told after hello(). */
  static async open(path: string, name: string, listener: VmListener = {}): Promise<VmConnection> {
    const socket = await connected(path);
    return new VmConnection(socket, path, name, listener);
  }

  /** In the newest protocol that both understand. */
  async hello(): Promise<VmResult<"hello">> {
    try {
      return await this.#greet(VM_PROTOCOL);
    } catch (error) {
      const spoken = error instanceof VmError && error.code === "PROTOCOL_MISMATCH";
      const theirs = spoken ? Number(error.details[0]) : Number.NaN;
      if (!(theirs >= MIN_VM_PROTOCOL && theirs < VM_PROTOCOL)) throw error;
      return this.#greet(theirs);
    }
  }

  call<M extends VmMethod>(
    method: M,
    params: VmParams<M>,
    timeoutMs = CALL_TIMEOUT_MS,
  ): Promise<VmResult<M>> {
    if (this.#isClosed)
      return Promise.reject(new VmError("VM_PROCESS_GONE", [this.#name, "the connection closed"]));
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(id);
        reject(new VmError("VM_PROCESS_SILENT", [this.#name, method, timeoutMs / 1000]));
      }, timeoutMs);
      this.#waiting.set(id, { method, resolve, reject, timer });
      this.#socket.write(`${JSON.stringify({ jsonrpc: "2.0", id, method, params })}\n`);
    });
  }

  /**
   * Calls with a file that is opened for the process. One of an older release opens it itself, by its
   * name.
   */
  async callWithFile<M extends "changeMedium" | "startCapture">(
    method: M,
    params: VmParams<M>,
    open: () => number,
  ): Promise<VmResult<M>> {
    if (this.#protocol < PROTOCOL_WITH_FILES) return this.call(method, params);
    const files = randomUUID();
    const fd = open();
    const sent = await handOver(this.#files, files, fd)
      .catch((error: unknown) => {
        throw new VmError("VM_PROCESS_GONE", [this.#name, reasonOf(error)], { cause: error });
      })
      .finally(() => closeSync(fd));
    try {
      return await this.call(method, { ...params, files });
    } finally {
      sent.destroy();
    }
  }

  close(): void {
    this.#socket.destroy();
  }

  async #greet(protocol: number): Promise<VmResult<"hello">> {
    const answer = await this.call("hello", { protocol }, HELLO_TIMEOUT_MS);
    this.#protocol = protocol;
    return answer;
  }

  #receive(text: string): void {
    const lines = (this.#buffer + text).split("\n");
    this.#buffer = lines.pop() ?? "";
    try {
      for (const line of lines) this.#handle(JSON.parse(line) as Line);
      if (this.#buffer.length > 2 * MAX_LINE) throw new Error("a line without end");
    } catch {
      this.#socket.destroy(); // it no longer speaks the protocol
    }
  }

  #handle({ id, method, params, result, error }: Line): void {
    if (method !== undefined) this.#notice(method, params);
    else if (id !== undefined) this.#answer(id, result, error);
  }

  #notice(method: VmNotification, params: unknown): void {
    const listener = this.#listener[method] as ((notice: unknown) => void) | undefined;
    listener?.(parse(vmNotifications[method], params));
  }

  #answer(id: number, result: unknown, error: Line["error"]): void {
    const waiting = this.#waiting.get(id);
    if (waiting === undefined) return;
    this.#waiting.delete(id);
    clearTimeout(waiting.timer);
    try {
      if (error !== undefined) throw this.#explained(errorOf(error), waiting.method);
      waiting.resolve(parse(vmMethods[waiting.method].result, result) as never);
    } catch (failure) {
      waiting.reject(asVmError(failure));
    }
  }

  /** A process of an older release lacks what came later. */
  #explained(error: VmError, method: VmMethod): VmError {
    const older = this.#protocol < VM_PROTOCOL && error.code === "METHOD_NOT_FOUND";
    return older ? new VmError("VM_PROCESS_OLD", [this.#name, method]) : error;
  }

  #failAll(error: Error): void {
    for (const { reject, timer } of this.#waiting.values()) {
      clearTimeout(timer);
      reject(error);
    }
    this.#waiting.clear();
  }
}

function connected(path: string): Promise<Socket> {
  const socket = connect(path);
  return new Promise((resolve, reject) => {
    socket.once("connect", () => resolve(socket));
    socket.once("error", reject);
  });
}

/** The connection, on which the descriptor lies until the process takes it. */
async function handOver(path: string, name: string, fd: number): Promise<Socket> {
  const socket = await connected(path);
  socket.on("error", () => {}); // the method's answer says more
  const to = descriptorOf(socket);
  if (to === undefined || host().sendDescriptors(to, Buffer.from(name), [fd]) === undefined) {
    socket.destroy();
    throw new Error("it takes no descriptors");
  }
  return socket;
}

function errorOf({ message, data }: NonNullable<Line["error"]>): VmError {
  const code = String(data?.code ?? "");
  const details: unknown[] = Array.isArray(data?.details) ? data.details : [];
  return isErrorCode(code)
    ? new VmError(code, details.map(String))
    : new VmError("INTERNAL", [String(message)]);
}
