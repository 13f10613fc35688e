// One connection to a VM process: JSON-RPC 2.0, a line each way (api-schema/vm-rpc.ts).
import { connect, type Socket } from "node:net";
import {
  isErrorCode,
  MAX_LINE,
  VM_PROTOCOL,
  VmError,
  type VmMethod,
  type VmNotice,
  type VmNotification,
  type VmParams,
  type VmResult,
} from "../../api-schema/index.js";

const CALL_TIMEOUT_MS = 30_000;

type Listener = { [N in VmNotification]?: (notice: VmNotice<N>) => void };

interface Waiting {
  readonly resolve: (value: never) => void;
  readonly reject: (error: Error) => void;
  readonly timer: NodeJS.Timeout;
}

interface Line {
  readonly id?: number;
  readonly method?: VmNotification;
  readonly params?: unknown;
  readonly result?: unknown;
  readonly error?: { message: string; data?: { code: string; details: (string | number)[] } };
}

export class VmConnection {
  readonly #socket: Socket;
  readonly #name: string;
  readonly #waiting = new Map<number, Waiting>();
  #nextId = 1;
  #buffer = "";
  #listener: Listener = {};
  #closed: Promise<void>;
  #isClosed = false;

  private constructor(socket: Socket, name: string) {
    this.#socket = socket;
    this.#name = name;
    socket.setEncoding("utf8");
    socket.on("data", (text: string) => this.#receive(text));
    socket.on("error", () => {}); // "close" follows
    this.#closed = new Promise((resolve) => {
      socket.on("close", () => {
        this.#isClosed = true;
        this.#fail(new VmError("VM_PROCESS_GONE", [name, "the connection closed"]));
        resolve();
      });
    });
  }

  /** Connects and says hello; rejects where nobody answers or the protocol is another. */
  static async open(path: string, name: string, listener: Listener = {}): Promise<VmConnection> {
    const socket = connect(path);
    await new Promise<void>((resolve, reject) => {
      socket.once("connect", resolve);
      socket.once("error", reject);
    });
    const connection = new VmConnection(socket, name);
    connection.#listener = listener;
    return connection;
  }

  /** Resolves when the connection is no more. */
  get closed(): Promise<void> {
    return this.#closed;
  }

  hello(): Promise<VmResult<"hello">> {
    return this.call("hello", { protocol: VM_PROTOCOL });
  }

  call<M extends VmMethod>(method: M, params: VmParams<M>): Promise<VmResult<M>> {
    if (this.#isClosed)
      return Promise.reject(new VmError("VM_PROCESS_GONE", [this.#name, "the connection closed"]));
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(id);
        reject(new VmError("VM_PROCESS_SILENT", [this.#name, method, CALL_TIMEOUT_MS / 1000]));
      }, CALL_TIMEOUT_MS);
      this.#waiting.set(id, { resolve, reject, timer });
      this.#socket.write(`${JSON.stringify({ jsonrpc: "2.0", id, method, params })}\n`);
    });
  }

  pauseReading(): void {
    this.#socket.pause();
  }

  resumeReading(): void {
    this.#socket.resume();
  }

  close(): void {
    this.#socket.destroy();
  }

  #receive(text: string): void {
    this.#buffer += text;
    const lines = this.#buffer.split("\n");
    this.#buffer = lines.pop() ?? "";
    if (this.#buffer.length > 2 * MAX_LINE) this.#socket.destroy();
    for (const line of lines) this.#handle(line);
  }

  #handle(text: string): void {
    let line: Line;
    try {
      line = JSON.parse(text) as Line;
    } catch {
      this.#socket.destroy(); // a VM process that no longer speaks JSON is gone
      return;
    }
    if (line.method !== undefined) {
      const handler = this.#listener[line.method] as ((notice: unknown) => void) | undefined;
      handler?.(line.params);
    } else if (line.id !== undefined) {
      this.#answer(line.id, line);
    }
  }

  #answer(id: number, { result, error }: Line): void {
    const waiting = this.#waiting.get(id);
    if (waiting === undefined) return;
    this.#waiting.delete(id);
    clearTimeout(waiting.timer);
    if (error === undefined) waiting.resolve(result as never);
    else waiting.reject(errorOf(error));
  }

  #fail(error: Error): void {
    for (const { reject, timer } of this.#waiting.values()) {
      clearTimeout(timer);
      reject(error);
    }
    this.#waiting.clear();
  }
}

function errorOf(error: NonNullable<Line["error"]>): VmError {
  const code = error.data?.code ?? "";
  return isErrorCode(code)
    ? new VmError(code, error.data?.details ?? [])
    : new VmError("INTERNAL", [error.message]);
}
