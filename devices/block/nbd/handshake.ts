// Finding a server's export: the fixed newstyle handshake over a Unix socket.
import { createConnection, type Socket } from "node:net";
import {
  COMMAND,
  EXPORT,
  type Export,
  encodeGo,
  encodeOption,
  encodeRequest,
  GREETING,
  HANDSHAKE,
  INFO,
  isError,
  MAX_PAYLOAD,
  OPTION,
  OPTION_REPLY,
  optionError,
} from "./protocol.js";

/** Why a server cannot be used, in words that go on "the disk image … cannot be used: ". */
export class NbdFault extends Error {
  override readonly name = "NbdFault";
}

const LIMIT_MS = 10_000;
/** Of an option's reply: those that we asked for are shorter, and errors may have a text. */
const MOST_REPLY = 65536;
const MOST_REPLIES = 64;

export interface Connected {
  readonly socket: Socket;
  readonly info: Export;
}

/** Rejects with NbdFault or the socket's error, which then is closed. The socket is paused. */
export async function connectNbd(path: string, name: string): Promise<Connected> {
  const socket = createConnection(path);
  socket.on("error", () => {}); // whoever reads hears of it; between two readers nobody does
  const timer = setTimeout(
    () => socket.destroy(new NbdFault(`it does not answer within ${LIMIT_MS / 1000} s`)),
    LIMIT_MS,
  );
  try {
    const reader = new Reader(socket);
    await greet(socket, reader);
    const structured = await askStructured(socket, reader);
    const info = await go(socket, reader, name);
    reader.stop();
    return { socket, info: { ...info, structured } };
  } catch (error) {
    socket.destroy();
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

/** Bytes of a socket, as many at a time as are asked for. */
class Reader {
  readonly #socket: Socket;
  #waiting:
    | { readonly length: number; resolve(bytes: Buffer): void; reject(e: Error): void }
    | undefined;
  #failed: Error | undefined;

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.on("readable", this.#look);
    socket.on("error", this.#fail);
    socket.on("close", this.#closed);
  }

  read(length: number): Promise<Buffer> {
    if (length === 0) return Promise.resolve(Buffer.alloc(0));
    return new Promise((resolve, reject) => {
      this.#waiting = { length, resolve, reject };
      if (this.#failed !== undefined) reject(this.#failed);
      else this.#look();
    });
  }

  stop(): void {
    this.#socket.off("readable", this.#look);
    this.#socket.off("error", this.#fail);
    this.#socket.off("close", this.#closed);
  }

  readonly #look = (): void => {
    const waiting = this.#waiting;
    const bytes = waiting && (this.#socket.read(waiting.length) as Buffer | null);
    if (!waiting || !bytes) return;
    this.#waiting = undefined;
    if (bytes.length === waiting.length) waiting.resolve(bytes);
    else waiting.reject(new NbdFault("it closes the connection amid the handshake"));
  };
  readonly #fail = (error: Error): void => {
    this.#failed ??= error;
    this.#waiting?.reject(this.#failed);
  };
  readonly #closed = (): void =>
    this.#fail(new NbdFault("it closes the connection amid the handshake"));
}

async function greet(socket: Socket, reader: Reader): Promise<void> {
  const bytes = await reader.read(GREETING.length);
  if (bytes.readBigUInt64BE(0) !== GREETING.magic || bytes.readBigUInt64BE(8) !== GREETING.option)
    throw new NbdFault("it is no NBD server, or one of the old style");
  const flags = bytes.readUInt16BE(16);
  if ((flags & HANDSHAKE.fixedNewstyle) === 0)
    throw new NbdFault("it does not speak the fixed newstyle handshake");
  const answer = Buffer.alloc(4);
  answer.writeUInt32BE(HANDSHAKE.fixedNewstyle | (flags & HANDSHAKE.noZeroes));
  socket.write(answer);
}

interface Reply {
  readonly type: number;
  readonly data: Buffer;
}

async function readReply(reader: Reader, option: number): Promise<Reply> {
  const header = await reader.read(OPTION_REPLY.length);
  const length = header.readUInt32BE(16);
  const good = header.readBigUInt64BE(0) === OPTION_REPLY.magic;
  if (!good || header.readUInt32BE(8) !== option || length > MOST_REPLY)
    throw new NbdFault("it does not keep to the NBD protocol");
  return { type: header.readUInt32BE(12), data: await reader.read(length) };
}

async function askStructured(socket: Socket, reader: Reader): Promise<boolean> {
  socket.write(encodeOption(OPTION.structuredReply, Buffer.alloc(0)));
  const { type } = await readReply(reader, OPTION.structuredReply);
  return type === OPTION_REPLY.ack;
}

async function go(
  socket: Socket,
  reader: Reader,
  name: string,
): Promise<Omit<Export, "structured">> {
  socket.write(encodeGo(name));
  const infos = new Map<number, Buffer>();
  for (let i = 0; i < MOST_REPLIES; i++) {
    const { type, data } = await readReply(reader, OPTION.go);
    if (type === OPTION_REPLY.ack) return exportOf(infos);
    if (isError(type)) throw new NbdFault(optionError(type, data.toString("utf8")));
    if (type === OPTION_REPLY.info && data.length >= 2) infos.set(data.readUInt16BE(0), data);
  }
  throw new NbdFault("it does not keep to the NBD protocol");
}

function exportOf(infos: ReadonlyMap<number, Buffer>): Omit<Export, "structured"> {
  const info = infos.get(INFO.export);
  const sizes = infos.get(INFO.blockSize);
  if (info === undefined || info.length < 12)
    throw new NbdFault("it does not say how large the export is");
  const size = Number(info.readBigUInt64BE(2));
  if (!Number.isSafeInteger(size)) throw new NbdFault("the export is larger than 8 PiB");
  const flags = info.readUInt16BE(10);
  const [minBlock, maxBlock] =
    sizes !== undefined && sizes.length >= 14
      ? [sizes.readUInt32BE(2), sizes.readUInt32BE(10)]
      : [1, MAX_PAYLOAD];
  if (minBlock === 0 || maxBlock < Math.max(minBlock, 512))
    throw new NbdFault(`its block sizes are ${minBlock} to ${maxBlock}`);
  const has = flags & EXPORT.hasFlags ? flags : 0;
  return { size, flags: has, minBlock, maxBlock: Math.min(maxBlock, MAX_PAYLOAD) };
}

/** The server may end what it does for us. */
export function disconnectNbd(socket: Socket): void {
  const nothing = { type: COMMAND.disconnect, flags: 0, offset: 0, length: 0 };
  socket.on("error", () => {});
  socket.end(encodeRequest(nothing, 0));
}
