// One client of the VM process's socket: JSON-RPC 2.0, an object a line. Requests are served in
// order, one at a time, and what a client has not read yet is bounded: a slow one is dropped and
// never holds anything else up.
import type { Socket } from "node:net";
import { asVmError, VmError } from "../../api-schema/errors.js";
import { parse } from "../../api-schema/validate.js";
import {
  isVmMethod,
  MAX_LINE,
  RPC_FAILED,
  RPC_INVALID_PARAMS,
  RPC_INVALID_REQUEST,
  RPC_METHOD_NOT_FOUND,
  RPC_PARSE_ERROR,
  type RpcError,
  type VmMethod,
  type VmNotice,
  type VmNotification,
  vmMethods,
} from "../../api-schema/vm-rpc.js";

/** Bytes that may wait for a client; above a whole answer's size. */
export const MAX_BACKLOG = 4 * MAX_LINE;
/** A dropped client gets so long to read what it was sent. */
const GRACE_MS = 5000;
const NEWLINE = 0x0a;

export type Answer = (method: VmMethod, params: unknown) => Promise<unknown> | unknown;

type Id = string | number | null;

interface Request {
  readonly id: Id | undefined;
  readonly method: string;
  readonly params: unknown;
}

export class Connection {
  /** Set by the server as the client asks. */
  greeted = false;
  readonly #socket: Socket;
  readonly #answer: Answer;
  #pieces: Buffer[] = [];
  #waiting = 0;
  #serving = false;
  #lines: Buffer[] = [];
  #dropped = false;
  #ended = false;

  constructor(socket: Socket, answer: Answer) {
    this.#socket = socket;
    this.#answer = answer;
    socket.on("data", (chunk: Buffer) => this.#receive(chunk));
    socket.on("error", () => socket.destroy());
    // A client may have sent all it will ask and still want the answers.
    socket.on("end", () => {
      this.#ended = true;
      if (!this.#serving) socket.end();
    });
  }

  notify<N extends VmNotification>(method: N, params: VmNotice<N>): boolean {
    return this.#send({ jsonrpc: "2.0", method, params });
  }

  /** Says why, and hangs up. */
  drop<N extends VmNotification>(method: N, params: VmNotice<N>): void {
    if (this.#dropped) return;
    this.#dropped = true;
    this.#socket.removeAllListeners("data").resume();
    this.#socket.end(`${JSON.stringify({ jsonrpc: "2.0", method, params })}\n`);
    setTimeout(() => this.#socket.destroy(), GRACE_MS).unref();
  }

  close(): void {
    if (!this.#dropped) this.#socket.end();
  }

  /** Bytes that the client has not taken. */
  get backlog(): number {
    return this.#socket.writableLength;
  }

  #send(message: unknown): boolean {
    if (this.#dropped || this.#socket.destroyed) return false;
    this.#socket.write(`${JSON.stringify(message)}\n`);
    if (this.backlog > MAX_BACKLOG) this.#socket.destroy();
    return !this.#socket.destroyed;
  }

  #receive(chunk: Buffer): void {
    let rest = chunk;
    for (let at = rest.indexOf(NEWLINE); at >= 0; at = rest.indexOf(NEWLINE)) {
      this.#lines.push(Buffer.concat([...this.#pieces, rest.subarray(0, at)]));
      this.#pieces = [];
      this.#waiting = 0;
      rest = rest.subarray(at + 1);
    }
    if (rest.length > 0) this.#pieces.push(rest);
    this.#waiting += rest.length;
    if (this.#waiting > MAX_LINE) this.#refuseLine();
    else void this.#serve();
  }

  #refuseLine(): void {
    const error = { code: RPC_INVALID_REQUEST, message: `a line has more than ${MAX_LINE} bytes` };
    this.#send({ jsonrpc: "2.0", id: null, error });
    this.#dropped = true;
    this.#socket.end();
    setTimeout(() => this.#socket.destroy(), GRACE_MS).unref();
  }

  /** No more is read from the client while its requests are being served. */
  async #serve(): Promise<void> {
    if (this.#serving) return;
    this.#serving = true;
    this.#socket.pause();
    for (let line = this.#lines.shift(); line !== undefined; line = this.#lines.shift()) {
      if (this.#dropped) break;
      await this.#serveLine(line);
    }
    this.#serving = false;
    this.#socket.resume();
    if (this.#ended) this.#socket.end();
  }

  async #serveLine(line: Buffer): Promise<void> {
    const request = readRequest(line);
    if ("code" in request) {
      this.#send({ jsonrpc: "2.0", id: null, error: request });
      return;
    }
    const { id, method, params } = request;
    try {
      const result = await this.#call(method, params);
      if (id !== undefined) this.#send({ jsonrpc: "2.0", id, result });
    } catch (error) {
      if (id !== undefined) this.#send({ jsonrpc: "2.0", id, error: rpcError(error) });
    }
  }

  #call(method: string, params: unknown): Promise<unknown> | unknown {
    if (!isVmMethod(method)) throw new VmError("METHOD_NOT_FOUND", [method.slice(0, 64)]);
    return this.#answer(method, parse(vmMethods[method].params, params ?? {}, "params"));
  }
}

const CODES: Readonly<Record<string, number>> = {
  METHOD_NOT_FOUND: RPC_METHOD_NOT_FOUND,
  REQUEST_INVALID: RPC_INVALID_PARAMS,
};

function rpcError(thrown: unknown): RpcError {
  const { code, message, details } = asVmError(thrown);
  return { code: CODES[code] ?? RPC_FAILED, message, data: { code, details } };
}

const isId = (value: unknown): value is Id =>
  value === null || typeof value === "string" || typeof value === "number";

function readRequest(line: Buffer): Request | RpcError {
  let value: unknown;
  try {
    value = JSON.parse(line.toString("utf8"));
  } catch {
    return { code: RPC_PARSE_ERROR, message: "the line is not JSON" };
  }
  const invalid = { code: RPC_INVALID_REQUEST, message: "not a JSON-RPC 2.0 request" };
  if (typeof value !== "object" || value === null) return invalid;
  const { jsonrpc, id, method, params } = value as Record<string, unknown>;
  if (jsonrpc !== "2.0" || typeof method !== "string") return invalid;
  if (id !== undefined && !isId(id)) return invalid;
  return { id, method, params };
}
