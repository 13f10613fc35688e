// The console: history by byte offset over plain HTTP, and both ways over a WebSocket. The VM
// process writes the history itself, so it is there whether or not anything runs.
import type { FastifyInstance } from "fastify";
import type { WebSocket } from "ws";
import { readConsoleLog } from "../../api-schema/console-log.js";
import { asVmError, ConsoleQuery, StreamQuery, VmPath } from "../../api-schema/index.js";
import type { Supervisor } from "../supervisor/supervisor.js";
import type { VmConnection } from "../supervisor/vm-connection.js";
import type { VmDriver } from "../supervisor/vm-driver.js";
import type { VmFolders } from "../supervisor/vm-folders.js";

/** A client that has this much unread is dropped; it may come back with the offset it is told. */
const MAX_UNREAD = 4 * 2 ** 20;
const CHUNK = 64 * 1024;
// RFC 6455 §7.4.1 and the registry it made: "Try Again Later".
const TRY_AGAIN_LATER = 1013;
const INTERNAL_ERROR = 1011;
const NORMAL = 1000;

interface Options {
  readonly supervisor: Supervisor;
  readonly folders: VmFolders;
}

/** What a stream sends beside the raw output, as JSON text frames. */
type Notice =
  | { readonly kind: "start"; readonly offset: number }
  | { readonly kind: "gap"; readonly from: number; readonly to: number }
  | { readonly kind: "ended" }
  | { readonly kind: "dropped"; readonly offset: number; readonly reason: string };

export async function consoleRoutes(
  app: FastifyInstance,
  { supervisor, folders }: Options,
): Promise<void> {
  app.get<{ Params: { vm: string }; Querystring: { offset: number; length: number } }>(
    "/vms/:vm/console",
    { schema: { params: VmPath, querystring: ConsoleQuery } },
    async (request, reply) => {
      const base = folders.console(supervisor.find(request.params.vm).uuid);
      const { length } = request.query;
      const offset = fromEnd(base, request.query.offset);
      const read = readConsoleLog(base, offset, length);
      return reply
        .header("content-type", "application/octet-stream")
        .header("x-console-offset", read.offset)
        .header("x-console-first", read.first)
        .header("x-console-end", read.end)
        .send(Buffer.from(read.bytes));
    },
  );

  app.get<{ Params: { vm: string }; Querystring: { offset?: number } }>(
    "/vms/:vm/console/stream",
    { websocket: true, schema: { params: VmPath, querystring: StreamQuery } },
    (socket, request) => {
      const driver = supervisor.find(request.params.vm);
      const base = folders.console(driver.uuid);
      const end = readConsoleLog(base, Number.MAX_SAFE_INTEGER, 0).end;
      const offset = request.query.offset === undefined ? end : fromEnd(base, request.query.offset);
      new ConsoleStream(socket, driver, base, offset).run();
    },
  );
}

const fromEnd = (base: string, offset: number): number =>
  offset >= 0 ? offset : Math.max(0, readConsoleLog(base, 0, 0).end + offset);

/**
 * One client of one console. Output always comes from the history file; what the VM process sends
 * says only that there is more, so that nothing is missed, doubled or out of order.
 */
class ConsoleStream {
  readonly #socket: WebSocket;
  readonly #driver: VmDriver;
  readonly #base: string;
  #offset: number;
  #vm: VmConnection | undefined;
  #input: Promise<unknown> = Promise.resolve();

  constructor(socket: WebSocket, driver: VmDriver, base: string, offset: number) {
    this.#socket = socket;
    this.#driver = driver;
    this.#base = base;
    this.#offset = offset;
  }

  run(): void {
    this.#notify({ kind: "start", offset: this.#offset });
    this.#socket.on("message", (data: Buffer) => this.#send(data));
    this.#socket.on("close", () => this.#vm?.close());
    this.#socket.on("error", () => this.#socket.terminate());
    this.#follow().catch((error) => this.#socket.close(INTERNAL_ERROR, asVmError(error).code));
  }

  async #follow(): Promise<void> {
    this.#drain();
    const more = (): void => this.#drain();
    this.#vm = await this.#driver.openConnection({ consoleData: more, consoleDropped: more });
    await this.#vm.call("consoleFollow", { follow: true });
    this.#drain();
    await this.#vm.closed;
    this.#drain();
    this.#notify({ kind: "ended" });
    this.#socket.close(NORMAL);
  }

  #drain(): void {
    for (;;) {
      if (this.#socket.readyState !== this.#socket.OPEN) return;
      if (this.#socket.bufferedAmount > MAX_UNREAD) {
        this.#drop();
        return;
      }
      const { offset, bytes } = readConsoleLog(this.#base, this.#offset, CHUNK);
      if (bytes.length === 0) return;
      if (offset > this.#offset) this.#notify({ kind: "gap", from: this.#offset, to: offset });
      this.#socket.send(bytes);
      this.#offset = offset + bytes.length;
    }
  }

  #drop(): void {
    this.#notify({ kind: "dropped", offset: this.#offset, reason: "it reads too slowly" });
    this.#socket.close(TRY_AGAIN_LATER, "too slow");
    this.#vm?.close();
  }

  #send(data: Buffer): void {
    const text = Buffer.from(data).toString("base64");
    this.#input = this.#input
      .then(() => this.#vm?.call("consoleWrite", { data: text }))
      .catch((error) => this.#socket.close(INTERNAL_ERROR, asVmError(error).code));
  }

  #notify(notice: Notice): void {
    if (this.#socket.readyState === this.#socket.OPEN) this.#socket.send(JSON.stringify(notice));
  }
}
