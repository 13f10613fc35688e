// A disk behind an NBD server. The guest's requests go out as they come and end as they are
// answered. What the server has acknowledged may be lost with it until it has flushed: such writes
// are kept here, and when the connection is lost they are made again on the next one, in their
// order, before anything else. So whatever becomes of the server, the guest loses nothing it was
// told was done.

import type { Socket } from "node:net";
import { constants } from "node:os";
import type { BlockBackend, BlockDone, BlockGeometry } from "../backend.js";
import { type Buffers, slicePieces } from "../pieces.js";
import { Parts } from "../request.js";
import { type Connected, connectNbd, disconnectNbd, NbdFault } from "./handshake.js";
import {
  COMMAND,
  COMMAND_FLAG,
  type Command,
  EXPORT,
  type Export,
  encodeRequest,
} from "./protocol.js";
import { type ReplyHandler, ReplyParser } from "./replies.js";

const { EIO, ENOSPC } = constants.errno;
const AGAIN_MS = 1000;
/** More requests than this wait here. */
const MOST_SENT = 128;
/** The server is made to flush when more than this is kept. */
const MOST_KEPT = 2 ** 25;
const MOST_KEPT_REQUESTS = 16384;
/** The age of a request that is made again. */
const REPLAYED = -1;
const ZEROS = 2 ** 20;

export interface NbdOptions {
  readonly connected: Connected;
  readonly path: string;
  readonly name: string;
  readonly geometry: BlockGeometry;
  readonly buffers: Buffers;
  /** Every write is on the server's medium before it ends. */
  readonly sync: boolean;
  readonly onStall?: (stalled: boolean) => void;
  readonly log: (text: string) => void;
}

interface Request extends Command {
  /** Of a read; undefined once the guest does not want it any more. */
  pieces: readonly number[] | undefined;
  /** Of a write: a copy, since the guest may change its own before it is sent again. */
  readonly payload: Buffer | undefined;
  readonly age: number;
  received: number;
  /** Of a flush: how many of the kept writes it makes sure of. */
  covers: number;
  readonly done: BlockDone;
}

export class NbdBackend implements BlockBackend {
  readonly geometry: BlockGeometry;
  readonly #options: NbdOptions;
  readonly #info: Export;
  #socket: Socket | undefined;
  #cookie = 0;
  readonly #sent = new Map<number, Request>();
  #queue: Request[] = [];
  /** Acknowledged, and not known to be on the server's medium; the oldest first. */
  #kept: Request[] = [];
  #keptBytes = 0;
  #dropped = 0;
  #flushing = false;
  #replaying = false;
  #age = 0;
  #requests = 0;
  #full = 0;
  #closed = false;
  #idle: (() => void)[] = [];
  #timer: NodeJS.Timeout | undefined;

  constructor(options: NbdOptions) {
    this.geometry = options.geometry;
    this.#options = options;
    this.#info = options.connected.info;
    this.#attach(options.connected.socket);
  }

  read(offset: number, length: number, pieces: readonly number[], done: BlockDone): void {
    this.#split(offset, length, this.#info.maxBlock, done, (at, size, end) => {
      const some = slicePieces(pieces, at - offset, size);
      this.#ask({ type: COMMAND.read, flags: 0, offset: at, length: size, pieces: some }, end);
    });
  }

  write(offset: number, length: number, pieces: readonly number[], done: BlockDone): void {
    const flags = this.#options.sync ? COMMAND_FLAG.fua : 0;
    this.#split(offset, length, this.#info.maxBlock, done, (at, size, end) => {
      const payload = Buffer.allocUnsafe(size);
      this.#options.buffers.get(slicePieces(pieces, at - offset, size), payload);
      this.#ask({ type: COMMAND.write, flags, offset: at, length: size, payload }, end);
    });
  }

  flush(done: BlockDone): void {
    const type = this.#can(EXPORT.flush) ? COMMAND.flush : undefined;
    const parts = this.#request(done);
    if (type === undefined) queueMicrotask(() => parts.end(0));
    else this.#ask({ type, flags: 0, offset: 0, length: 0 }, parts.end);
  }

  discard(offset: number, length: number, done: BlockDone): void {
    if (!this.#can(EXPORT.trim)) {
      queueMicrotask(() => done(0));
      return;
    }
    this.#split(offset, length, 2 ** 30, done, (at, size, end) =>
      this.#ask({ type: COMMAND.trim, flags: 0, offset: at, length: size }, end),
    );
  }

  writeZeroes(offset: number, length: number, unmap: boolean, done: BlockDone): void {
    const fua = this.#options.sync ? COMMAND_FLAG.fua : 0;
    if (this.#can(EXPORT.writeZeroes)) {
      const flags = fua | (unmap ? 0 : COMMAND_FLAG.noHole);
      this.#split(offset, length, 2 ** 30, done, (at, size, end) =>
        this.#ask({ type: COMMAND.zeroes, flags, offset: at, length: size }, end),
      );
      return;
    }
    this.#split(offset, length, Math.min(ZEROS, this.#info.maxBlock), done, (at, size, end) => {
      const payload = Buffer.alloc(size);
      this.#ask({ type: COMMAND.write, flags: fua, offset: at, length: size, payload }, end);
    });
  }

  cancel(): void {
    this.#age++;
    this.#requests = 0;
    this.#full = 0;
    // Writes that were sent may be made: their bytes are copies. Reads have nowhere to go.
    this.#queue = [];
    this.#flushing = false;
    for (const request of this.#sent.values()) request.pieces = undefined;
    this.#settle();
  }

  idle(): Promise<void> {
    if (this.#requests === 0) return Promise.resolve();
    return new Promise((resolve) => this.#idle.push(resolve));
  }

  close(): void {
    if (this.#closed) return;
    this.cancel();
    this.#closed = true;
    clearTimeout(this.#timer);
    if (this.#socket !== undefined) disconnectNbd(this.#socket);
    this.#socket = undefined;
    this.#options.buffers.free();
  }

  // --- requests ---------------------------------------------------------------------------------

  #can(flag: number): boolean {
    return (this.#info.flags & flag) !== 0;
  }

  #request(done: BlockDone): Parts {
    const age = this.#age;
    this.#requests++;
    return new Parts((errno) => {
      if (age !== this.#age) return;
      this.#requests--;
      done(errno);
      this.#settle();
    });
  }

  #settle(): void {
    if (this.#requests > this.#full) return;
    for (const resolve of this.#idle.splice(0)) resolve();
  }

  #split(
    offset: number,
    length: number,
    most: number,
    done: BlockDone,
    one: (at: number, size: number, end: BlockDone) => void,
  ): void {
    const parts = this.#request(done);
    for (let at = offset; at < offset + length; at += most) {
      parts.begin();
      one(at, Math.min(most, offset + length - at), parts.end);
    }
    parts.end(0);
  }

  #ask(
    command: Command & { readonly pieces?: readonly number[]; readonly payload?: Buffer },
    done: BlockDone,
  ): void {
    const { pieces, payload } = command;
    this.#queue.push({ ...command, pieces, payload, age: this.#age, received: 0, covers: 0, done });
    this.#send();
  }

  #send(): void {
    while (this.#queue.length > 0 && this.#sent.size < MOST_SENT && this.#mayWrite()) {
      const request = this.#queue.shift();
      if (request !== undefined) this.#transmit(request);
    }
  }

  #mayWrite(): boolean {
    // What is kept is bounded: past that, a flush that is on its way comes first.
    const crowded = this.#flushing && this.#keptBytes > 2 * MOST_KEPT;
    if (crowded && this.#queue[0]?.type !== COMMAND.flush) return false;
    return this.#socket !== undefined && !this.#replaying && !this.#socket.writableNeedDrain;
  }

  #transmit(request: Request): void {
    const cookie = ++this.#cookie;
    request.received = 0;
    if (request.type === COMMAND.flush) request.covers = this.#dropped + this.#kept.length;
    this.#sent.set(cookie, request);
    this.#socket?.write(encodeRequest(request, cookie));
    if (request.payload !== undefined) this.#socket?.write(request.payload);
  }

  #ended(request: Request, error: number): void {
    const short = request.type === COMMAND.read && request.received < request.length;
    if (error === ENOSPC && changes(request) && request.age !== REPLAYED) {
      this.#again(request);
      return;
    }
    const errno = error !== 0 ? errnoOf(error) : short ? EIO : 0;
    if (errno === 0) this.#note(request);
    request.done(errno);
    this.#send();
  }

  /** The server has no room: later, and the operator knows. */
  #again(request: Request): void {
    if (request.age !== this.#age) return;
    if (this.#full++ === 0) this.#options.onStall?.(true);
    this.#settle();
    setTimeout(() => {
      if (request.age !== this.#age || this.#closed) return;
      if (--this.#full === 0) this.#options.onStall?.(false);
      this.#queue.push(request);
      this.#send();
    }, AGAIN_MS).unref();
  }

  // --- what the server may lose -----------------------------------------------------------------

  #note(request: Request): void {
    if (request.age === REPLAYED) return;
    if (request.type === COMMAND.flush) this.#forget(request.covers);
    if (!changes(request) || !this.#can(EXPORT.flush) || request.flags & COMMAND_FLAG.fua) return;
    this.#kept.push(request);
    this.#keptBytes += request.payload?.length ?? 0;
    const many = this.#keptBytes > MOST_KEPT || this.#kept.length > MOST_KEPT_REQUESTS;
    if (many && !this.#flushing) this.#flushOwn();
  }

  #forget(covers: number): void {
    const gone = this.#kept.splice(0, Math.max(0, covers - this.#dropped));
    this.#dropped += gone.length;
    for (const { payload } of gone) this.#keptBytes -= payload?.length ?? 0;
  }

  #flushOwn(): void {
    this.#flushing = true;
    const command = { type: COMMAND.flush, flags: 0, offset: 0, length: 0 };
    this.#ask(command, () => {
      this.#flushing = false;
    });
  }

  // --- the connection ---------------------------------------------------------------------------

  #attach(socket: Socket): void {
    this.#socket = socket;
    const parser = new ReplyParser(this.#replies());
    const lost = (why: string): void => {
      if (this.#socket !== socket) return;
      socket.destroy();
      this.#lost(why);
    };
    socket.on("data", (bytes: Buffer) => {
      try {
        parser.feed(bytes);
      } catch (error) {
        if (!(error instanceof NbdFault)) throw error;
        lost(error.message);
      }
    });
    socket.on("drain", () => this.#send());
    socket.on("error", (error) => lost(error.message));
    socket.on("close", () => lost("the server has closed the connection"));
    if (socket.destroyed) queueMicrotask(() => lost("the server has closed the connection"));
    else socket.resume();
  }

  #replies(): ReplyHandler {
    return {
      find: (cookie) => {
        const request = this.#sent.get(cookie);
        return request && { ...rangeOf(request), reads: request.type === COMMAND.read };
      },
      data: (cookie, at, bytes) => this.#received(cookie, at, bytes),
      hole: (cookie, at, length) => this.#received(cookie, at, new Uint8Array(length)),
      end: (cookie, error) => {
        const request = this.#sent.get(cookie);
        this.#sent.delete(cookie);
        if (request !== undefined) this.#ended(request, error);
      },
    };
  }

  #received(cookie: number, at: number, bytes: Uint8Array): void {
    const request = this.#sent.get(cookie);
    if (request === undefined) return;
    request.received += bytes.length;
    if (request.pieces === undefined) return;
    const into = slicePieces(request.pieces, at - request.offset, bytes.length);
    this.#options.buffers.put(into, bytes);
  }

  /** What was under way goes first on the next connection, behind what is kept. */
  #lost(why: string): void {
    this.#socket = undefined;
    if (this.#closed) return;
    this.#options.log(`${why}; what is under way waits for a new connection`);
    const unanswered = [...this.#sent.values()].filter(
      (request) => request.age === this.#age || (changes(request) && request.age !== REPLAYED),
    );
    this.#sent.clear();
    this.#queue = [...unanswered, ...this.#queue];
    this.#reconnectLater();
  }

  #reconnectLater(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#reconnect(), AGAIN_MS);
    this.#timer.unref();
  }

  async #reconnect(): Promise<void> {
    const { path, name, log } = this.#options;
    try {
      const { socket, info } = await connectNbd(path, name);
      if (this.#closed || !sameExport(info, this.#info)) {
        disconnectNbd(socket);
        if (!this.#closed) throw new NbdFault("the export is not the one that it was");
        return;
      }
      this.#replaying = true;
      this.#attach(socket);
      await this.#replay();
      this.#replaying = false;
      log("the server is back");
      this.#send();
    } catch {
      this.#socket?.destroy();
      this.#socket = undefined;
      if (!this.#closed) this.#reconnectLater();
    }
  }

  /** One after the other: they may overlap. Rejects where this connection is lost too. */
  async #replay(): Promise<void> {
    const socket = this.#socket;
    for (const request of [...this.#kept]) {
      const errno = await new Promise<number>((resolve) => {
        socket?.once("close", () => resolve(EIO));
        if (this.#socket === socket) this.#transmit({ ...request, age: REPLAYED, done: resolve });
        else resolve(EIO);
      });
      if (errno !== 0) throw new NbdFault("a write could not be made again");
    }
  }
}

const changes = ({ type }: Command): boolean =>
  type === COMMAND.write || type === COMMAND.zeroes || type === COMMAND.trim;

const rangeOf = ({ offset, length }: Command) => ({ offset, length });

const sameExport = (a: Export, b: Export): boolean => a.size === b.size && a.flags === b.flags;

/** "Error values" are Linux's numbers; EPERM, EIO, ENOMEM, EINVAL, ENOSPC … */
const errnoOf = (error: number): number => (error > 0 && error < 4096 ? error : EIO);
