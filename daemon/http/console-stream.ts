// One client of one console over a WebSocket. Binary frames are the output and, the other way,
// what is typed; text frames are JSON: notices from the daemon, the terminal's size from the client. Output always comes from the
// history, at the client's pace: nothing is missed, doubled or held in memory, and the guest
// never waits. A client that stops reading, or that the history has overtaken, is dropped.
import type { FastifyBaseLogger } from "fastify";
import type { WebSocket } from "ws";
import { readConsoleLog } from "../../api-schema/console-log.js";
import {
  asVmError,
  ConsoleControl,
  type ConsoleNotice,
  MAX_CONSOLE_FRAME,
  parse,
} from "../../api-schema/index.js";
import type { ConsoleFeed } from "../supervisor/console-feed.js";

const CHUNK = 64 * 1024;
/** Bytes on their way to a client; more are read from the history when it has taken some. */
const MAX_UNREAD = 4 * CHUNK;
/** RFC 6455 §5.5: a control frame has 125 bytes, of which the code is two; a character may be four. */
const MAX_REASON = 30;
/** What waits for a client that takes nothing for so long waits in vain. */
export const STALL_MS = 5_000;
// RFC 6455 §7.4.1, and "Try Again Later" from the registry that it made.
const NORMAL = 1000;
const INVALID_DATA = 1007;
const TOO_BIG = 1009;
const INTERNAL_ERROR = 1011;
const TRY_AGAIN_LATER = 1013;

export interface ConsoleStreamOptions {
  readonly feed: ConsoleFeed;
  /** Of the history. */
  readonly base: string;
  /** Where to begin. */
  readonly offset: number;
  readonly log: Pick<FastifyBaseLogger, "warn">;
}

export class ConsoleStream {
  readonly #socket: WebSocket;
  readonly #feed: ConsoleFeed;
  readonly #base: string;
  readonly #log: ConsoleStreamOptions["log"];
  #offset: number;
  /** Output has been sent: what is missing from here on, the client was too slow for. */
  #began = false;
  #unwatch: () => void = () => {};
  #stall: NodeJS.Timeout | undefined;
  #input: Promise<void> = Promise.resolve();

  constructor(socket: WebSocket, { feed, base, offset, log }: ConsoleStreamOptions) {
    this.#socket = socket;
    this.#feed = feed;
    this.#base = base;
    this.#log = log;
    this.#offset = offset;
  }

  run(): void {
    const socket = this.#socket;
    socket.on("message", (data: Buffer, binary: boolean) =>
      binary ? this.#type(data) : this.#control(data),
    );
    socket.on("error", () => socket.terminate());
    socket.on("close", () => {
      clearTimeout(this.#stall);
      this.#unwatch();
    });
    const { end } = readConsoleLog(this.#base, 0, 0);
    this.#offset = Math.min(this.#offset, end);
    this.#notify({ kind: "start", offset: this.#offset });
    this.#unwatch = this.#feed.watch(() => this.#pump());
    this.#pump();
  }

  get #open(): boolean {
    return this.#socket.readyState === this.#socket.OPEN;
  }

  #pump(): void {
    while (this.#open && this.#socket.bufferedAmount < MAX_UNREAD) {
      const { offset, bytes } = readConsoleLog(this.#base, this.#offset, CHUNK);
      if (bytes.length === 0) {
        this.#caughtUp();
        return;
      }
      if (offset > this.#offset && this.#skip(offset)) return;
      this.#send(bytes);
      this.#offset = offset + bytes.length;
    }
  }

  #send(bytes: Uint8Array): void {
    this.#began = true;
    this.#stall ??= setTimeout(() => this.#drop("it stopped reading"), STALL_MS);
    this.#socket.send(bytes, () => {
      clearTimeout(this.#stall);
      this.#stall = undefined;
      if (!this.#open) return;
      if (this.#socket.bufferedAmount > 0)
        this.#stall = setTimeout(() => this.#drop("it stopped reading"), STALL_MS);
      this.#pump();
    });
  }

  /** True where the client is dropped for it. */
  #skip(to: number): boolean {
    const { first } = readConsoleLog(this.#base, 0, 0);
    if (this.#began && this.#offset < first) {
      this.#drop("it reads too slowly: what comes next is no longer kept");
      return true;
    }
    this.#notify({ kind: "gap", from: this.#offset, to });
    return false;
  }

  #caughtUp(): void {
    if (this.#feed.live) return;
    this.#notify({ kind: "ended" });
    this.#close(NORMAL, "");
  }

  #drop(reason: string): void {
    this.#log.warn({ offset: this.#offset, reason }, "a console reader is dropped");
    this.#notify({ kind: "dropped", offset: this.#offset, reason });
    this.#close(TRY_AGAIN_LATER, "too slow");
    this.#unwatch();
  }

  #control(data: Buffer): void {
    try {
      const { columns, rows } = parse(ConsoleControl, JSON.parse(data.toString("utf8")), "frame");
      this.#feed.resize({ columns, rows });
    } catch (error) {
      this.#close(INVALID_DATA, asVmError(error).message.slice(0, MAX_REASON));
    }
  }

  /** A client types no faster than the guest reads. */
  #type(data: Buffer): void {
    if (data.length > MAX_CONSOLE_FRAME) {
      this.#close(TOO_BIG, "");
      return;
    }
    this.#socket.pause();
    this.#input = this.#input
      .then(() => this.#feed.write(data))
      .then(
        () => this.#socket.resume(),
        (error) => this.#close(INTERNAL_ERROR, asVmError(error).code),
      );
  }

  /** The client's own close frame must be read for this to end soon. */
  #close(code: number, reason: string): void {
    this.#socket.resume();
    this.#socket.close(code, reason);
  }

  #notify(notice: ConsoleNotice): void {
    if (this.#open) this.#socket.send(JSON.stringify(notice));
  }
}
