// What a server sends back, taken apart as it comes: data goes on in the pieces it arrives in.
import { NbdFault } from "./handshake.js";
import { CHUNK, SIMPLE } from "./protocol.js";

/** A request as its replies need it. */
export interface Expected {
  readonly offset: number;
  readonly length: number;
  readonly reads: boolean;
}

export interface ReplyHandler {
  /** undefined: nobody asked for that. */
  find(cookie: number): Expected | undefined;
  data(cookie: number, at: number, bytes: Buffer): void;
  hole(cookie: number, at: number, length: number): void;
  /** `error`: an NBD error, or 0. */
  end(cookie: number, error: number): void;
}

const MOST_ERROR = 4096 + 6 + 8;
const PROTOCOL = "it does not keep to the NBD protocol";

export class ReplyParser {
  readonly #handler: ReplyHandler;
  #collected: Buffer[] = [];
  #have = 0;
  #need = 4;
  #then: (bytes: Buffer) => void = (bytes) => this.#magic(bytes);
  /** Data that is passed on as it comes. */
  #passing:
    | { readonly cookie: number; at: number; left: number; readonly last: boolean }
    | undefined;
  /** The first error of a request that is answered in chunks. */
  readonly #errors = new Map<number, number>();

  constructor(handler: ReplyHandler) {
    this.#handler = handler;
  }

  /** Throws NbdFault: the connection is of no more use. */
  feed(bytes: Buffer): void {
    let rest = bytes;
    while (rest.length > 0)
      rest = this.#passing === undefined ? this.#collect(rest) : this.#pass(rest);
  }

  #collect(bytes: Buffer): Buffer {
    const part = bytes.subarray(0, this.#need - this.#have);
    this.#collected.push(part);
    this.#have += part.length;
    if (this.#have === this.#need) {
      const whole = this.#collected.length === 1 ? part : Buffer.concat(this.#collected);
      this.#collected = [];
      this.#have = 0;
      this.#then(whole);
    }
    return bytes.subarray(part.length);
  }

  #pass(bytes: Buffer): Buffer {
    const passing = this.#passing;
    if (passing === undefined) return bytes;
    const part = bytes.subarray(0, passing.left);
    this.#handler.data(passing.cookie, passing.at, part);
    passing.at += part.length;
    passing.left -= part.length;
    if (passing.left === 0) {
      this.#passing = undefined;
      if (passing.last) this.#end(passing.cookie, 0);
    }
    return bytes.subarray(part.length);
  }

  #expect(length: number, then: (bytes: Buffer) => void): void {
    this.#need = length;
    this.#then = then;
  }
  #next(): void {
    this.#expect(4, (bytes) => this.#magic(bytes));
  }

  #magic(bytes: Buffer): void {
    const magic = bytes.readUInt32BE(0);
    if (magic === SIMPLE.magic) this.#expect(SIMPLE.length - 4, (rest) => this.#simple(rest));
    else if (magic === CHUNK.magic) this.#expect(CHUNK.length - 4, (rest) => this.#chunk(rest));
    else throw new NbdFault(PROTOCOL);
  }

  #simple(bytes: Buffer): void {
    const error = bytes.readUInt32BE(0);
    const cookie = Number(bytes.readBigUInt64BE(4));
    const { reads, offset, length } = this.#find(cookie);
    this.#next();
    if (error !== 0 || !reads) this.#end(cookie, error);
    else this.#passing = { cookie, at: offset, left: length, last: true };
  }

  #chunk(bytes: Buffer): void {
    const last = (bytes.readUInt16BE(0) & CHUNK.done) !== 0;
    const type = bytes.readUInt16BE(2);
    const cookie = Number(bytes.readBigUInt64BE(4));
    const length = bytes.readUInt32BE(12);
    const request = this.#find(cookie);
    this.#next();
    if (type === CHUNK.none && length === 0) {
      if (last) this.#end(cookie, 0);
    } else if (type === CHUNK.data && length > 8 && request.reads) {
      this.#expect(8, (at) => this.#dataChunk(cookie, at, length - 8, last));
    } else if (type === CHUNK.hole && length === 12 && request.reads) {
      this.#expect(12, (body) => this.#holeChunk(cookie, body, last));
    } else if (type & CHUNK.error && length >= 6 && length <= MOST_ERROR) {
      this.#expect(length, (body) => this.#errorChunk(cookie, body, last));
    } else throw new NbdFault(PROTOCOL);
  }

  #dataChunk(cookie: number, bytes: Buffer, length: number, last: boolean): void {
    const at = this.#inside(cookie, bytes.readBigUInt64BE(0), length);
    this.#next();
    this.#passing = { cookie, at, left: length, last };
  }

  #holeChunk(cookie: number, bytes: Buffer, last: boolean): void {
    const length = bytes.readUInt32BE(8);
    const at = this.#inside(cookie, bytes.readBigUInt64BE(0), length);
    this.#next();
    this.#handler.hole(cookie, at, length);
    if (last) this.#end(cookie, 0);
  }

  #errorChunk(cookie: number, bytes: Buffer, last: boolean): void {
    this.#next();
    const error = bytes.readUInt32BE(0) || 5;
    this.#errors.set(cookie, this.#errors.get(cookie) ?? error);
    if (last) this.#end(cookie, 0);
  }

  #inside(cookie: number, at: bigint, length: number): number {
    const request = this.#find(cookie);
    const from = Number(at);
    const good = from >= request.offset && from + length <= request.offset + request.length;
    if (!good) throw new NbdFault(PROTOCOL);
    return from;
  }

  #find(cookie: number): Expected {
    const request = this.#handler.find(cookie);
    if (request === undefined) throw new NbdFault(PROTOCOL);
    return request;
  }

  #end(cookie: number, error: number): void {
    const first = this.#errors.get(cookie) ?? error;
    this.#errors.delete(cookie);
    this.#handler.end(cookie, first);
  }
}
