// The NBD protocol: github.com/NetworkBlockDevice/nbd, doc/proto.md. All numbers are big-endian.

export const GREETING = {
  magic: 0x4e42444d41474943n,
  option: 0x49484156454f5054n,
  length: 18,
} as const;
/** "Handshake flags", of the server and the client. */
export const HANDSHAKE = { fixedNewstyle: 1, noZeroes: 2 } as const;

/** "Option types" and "Option reply types". */
export const OPTION = { go: 7, structuredReply: 8 } as const;
export const OPTION_REPLY = { magic: 0x0003e889045565a9n, length: 20, ack: 1, info: 3 } as const;
export const INFO = { export: 0, blockSize: 3 } as const;
const OPTION_ERRORS: Readonly<Record<number, string>> = {
  2147483649: "it does not know the option",
  2147483650: "its policy forbids it",
  2147483653: "it wants TLS",
  2147483654: "it has no such export",
  2147483655: "it is shutting down",
  2147483656: "it needs other block sizes",
};
export const isError = (type: number): boolean => type >= 0x80000000;
export const optionError = (type: number, text: string): string =>
  OPTION_ERRORS[type] ?? (text === "" ? `it answers error ${type.toString(16)}` : text);

/** "Transmission flags". */
export const EXPORT = {
  hasFlags: 1,
  readOnly: 2,
  flush: 4,
  fua: 8,
  trim: 32,
  writeZeroes: 64,
} as const;

/** "Request types", and the flags of a request. */
export const COMMAND = { read: 0, write: 1, disconnect: 2, flush: 3, trim: 4, zeroes: 6 } as const;
export const COMMAND_FLAG = { fua: 1, noHole: 2 } as const;
const REQUEST_MAGIC = 0x25609513;
export const REQUEST_LENGTH = 28;

export const SIMPLE = { magic: 0x67446698, length: 16 } as const;
export const CHUNK = {
  magic: 0x668e33ef,
  length: 20,
  done: 1,
  none: 0,
  data: 1,
  hole: 2,
  error: 0x8000,
} as const;

/** Where the server does not say. */
export const MAX_PAYLOAD = 32 * 2 ** 20;

export interface Export {
  readonly size: number;
  readonly flags: number;
  readonly structured: boolean;
  /** Bytes: what offsets and lengths must be multiples of, and how much one request moves. */
  readonly minBlock: number;
  readonly maxBlock: number;
}

export interface Command {
  readonly type: number;
  readonly flags: number;
  readonly offset: number;
  readonly length: number;
}

export function encodeRequest({ type, flags, offset, length }: Command, cookie: number): Buffer {
  const bytes = Buffer.alloc(REQUEST_LENGTH);
  bytes.writeUInt32BE(REQUEST_MAGIC, 0);
  bytes.writeUInt16BE(flags, 4);
  bytes.writeUInt16BE(type, 6);
  bytes.writeBigUInt64BE(BigInt(cookie), 8);
  bytes.writeBigUInt64BE(BigInt(offset), 16);
  bytes.writeUInt32BE(length, 24);
  return bytes;
}

export function encodeOption(option: number, data: Uint8Array): Buffer {
  const header = Buffer.alloc(16);
  header.writeBigUInt64BE(GREETING.option, 0);
  header.writeUInt32BE(option, 8);
  header.writeUInt32BE(data.length, 12);
  return Buffer.concat([header, data]);
}

/** "NBD_OPT_GO": the export's name, and what we want to know of it. */
export function encodeGo(name: string): Buffer {
  const bytes = Buffer.from(name);
  const data = Buffer.alloc(4 + bytes.length + 4);
  data.writeUInt32BE(bytes.length, 0);
  data.set(bytes, 4);
  data.writeUInt16BE(1, 4 + bytes.length);
  data.writeUInt16BE(INFO.blockSize, 6 + bytes.length);
  return encodeOption(OPTION.go, data);
}
