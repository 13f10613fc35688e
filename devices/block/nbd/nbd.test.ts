// The NBD client against a server of the test's own, which answers late, in any order, in chunks,
// with errors, with lies, and not at all.
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { FakeHost } from "../../fakes.js";
import { type Random, random } from "../fake-storage.js";
import { Buffers } from "../pieces.js";
import { NbdBackend } from "./backend.js";
import { connectNbd } from "./handshake.js";
import { CHUNK, EXPORT, GREETING, OPTION_REPLY, REQUEST_LENGTH, SIMPLE } from "./protocol.js";

const SIZE = 2 ** 18;
const ALL = EXPORT.hasFlags | EXPORT.flush | EXPORT.fua | EXPORT.trim | EXPORT.writeZeroes;

interface Request {
  readonly type: number;
  readonly cookie: bigint;
  readonly offset: number;
  readonly length: number;
  readonly data: Buffer;
}

class TestServer {
  readonly bytes = Buffer.alloc(SIZE);
  /** What a crash of the server would leave. */
  safe = Buffer.alloc(SIZE);
  structured = true;
  flags = ALL;
  /** Instead of an answer. */
  lie: ((request: Request) => Buffer) | undefined;
  connections: Socket[] = [];
  #server: Server;
  #random: Random;

  constructor(path: string, seed: number) {
    this.#random = random(seed);
    this.#server = createServer((socket) => void this.#serve(socket));
    this.#server.listen(path);
  }

  /** Whoever comes next finds what was safe. */
  crash(): void {
    for (const socket of this.connections.splice(0)) socket.destroy();
    this.safe.copy(this.bytes);
  }
  close(): void {
    for (const socket of this.connections) socket.destroy();
    this.#server.close();
  }

  #serve(socket: Socket): void {
    this.connections.push(socket);
    socket.on("error", () => {});
    const greeting = Buffer.alloc(18);
    greeting.writeBigUInt64BE(GREETING.magic, 0);
    greeting.writeBigUInt64BE(GREETING.option, 8);
    greeting.writeUInt16BE(3, 16);
    socket.write(greeting);
    let collected = Buffer.alloc(0);
    let phase: "flags" | "options" | "requests" = "flags";
    socket.on("data", (bytes: Buffer) => {
      collected = Buffer.concat([collected, bytes]);
      for (;;) {
        let used = 0;
        if (phase === "flags" && collected.length >= 4) {
          used = 4;
          phase = "options";
        } else if (phase === "options" && collected.length >= 16) {
          const length = collected.readUInt32BE(12);
          if (collected.length < 16 + length) return;
          used = 16 + length;
          if (this.#option(socket, collected.readUInt32BE(8))) phase = "requests";
        } else if (phase === "requests" && collected.length >= REQUEST_LENGTH) {
          const type = collected.readUInt16BE(6);
          const length = collected.readUInt32BE(24);
          used = REQUEST_LENGTH + (type === 1 ? length : 0);
          if (collected.length < used) return;
          this.#request(socket, {
            type,
            cookie: collected.readBigUInt64BE(8),
            offset: Number(collected.readBigUInt64BE(16)),
            length,
            data: Buffer.from(collected.subarray(REQUEST_LENGTH, used)),
          });
        }
        if (used === 0) return;
        collected = collected.subarray(used);
      }
    });
  }

  #option(socket: Socket, option: number): boolean {
    const reply = (type: number, data: Buffer): void => {
      const header = Buffer.alloc(OPTION_REPLY.length);
      header.writeBigUInt64BE(OPTION_REPLY.magic, 0);
      header.writeUInt32BE(option, 8);
      header.writeUInt32BE(type, 12);
      header.writeUInt32BE(data.length, 16);
      socket.write(Buffer.concat([header, data]));
    };
    if (option === 8) {
      reply(this.structured ? OPTION_REPLY.ack : 0x80000001, Buffer.alloc(0));
      return false;
    }
    const info = Buffer.alloc(12);
    info.writeBigUInt64BE(BigInt(SIZE), 2);
    info.writeUInt16BE(this.flags, 10);
    reply(OPTION_REPLY.info, info);
    reply(OPTION_REPLY.ack, Buffer.alloc(0));
    return true;
  }

  #request(socket: Socket, request: Request): void {
    const { type, offset, length, data } = request;
    if (type === 2) return;
    if (type === 1) data.copy(this.bytes, offset);
    if (type === 6) this.bytes.fill(0, offset, offset + length);
    if (type === 3) this.bytes.copy(this.safe);
    const answer = this.lie?.(request) ?? this.#answer(request);
    setTimeout(() => socket.writable && socket.write(answer), this.#random(3));
  }

  #answer({ type, cookie, offset, length }: Request): Buffer {
    if (!this.structured || type !== 0)
      return simple(cookie, 0, type === 0 ? this.#at(offset, length) : []);
    const half = length >> 1;
    const second = this.#at(offset + half, length - half);
    const last = second.every((byte) => byte === 0)
      ? chunk(cookie, CHUNK.hole, [u64(offset + half), u32(length - half)], false)
      : chunk(cookie, CHUNK.data, [u64(offset + half), second], false);
    const first = chunk(cookie, CHUNK.data, [u64(offset), this.#at(offset, half)], false);
    return Buffer.concat([last, first, chunk(cookie, CHUNK.none, [], true)]);
  }

  #at(offset: number, length: number): Buffer {
    return this.bytes.subarray(offset, offset + length);
  }
}

const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};
const u64 = (value: number): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
};

function simple(cookie: bigint, error: number, data: Buffer | number[]): Buffer {
  const header = Buffer.alloc(SIMPLE.length);
  header.writeUInt32BE(SIMPLE.magic, 0);
  header.writeUInt32BE(error, 4);
  header.writeBigUInt64BE(cookie, 8);
  return Buffer.concat([header, Buffer.from(data)]);
}

function chunk(cookie: bigint, type: number, body: Buffer[], done: boolean): Buffer {
  const data = Buffer.concat(body);
  const header = Buffer.alloc(CHUNK.length);
  header.writeUInt32BE(CHUNK.magic, 0);
  header.writeUInt16BE(done ? CHUNK.done : 0, 4);
  header.writeUInt16BE(type, 6);
  header.writeBigUInt64BE(cookie, 8);
  header.writeUInt32BE(data.length, 16);
  return Buffer.concat([header, data]);
}

let folder: string;
let server: TestServer;
const host = new FakeHost(2 ** 20);
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "xhyved-nbd-"));
  server = new TestServer(join(folder, "socket"), 1);
});
afterEach(() => {
  server.close();
  rmSync(folder, { recursive: true });
});

async function connect(): Promise<NbdBackend> {
  const path = join(folder, "socket");
  return new NbdBackend({
    ...{ connected: await connectNbd(path, ""), path, name: "", sync: false, log: () => {} },
    geometry: { size: SIZE, logicalSector: 512, physicalSector: 512, readOnly: false },
    buffers: new Buffers(host.io, host.memory, 4096),
  });
}

const ends = (start: (done: (errno: number) => void) => void): Promise<number> =>
  new Promise(start);

it.each([true, false])("moves what is asked for, structured replies %s", async (structured) => {
  server.structured = structured;
  const disk = await connect();
  const model = Buffer.alloc(SIZE);
  const chance = random(7);
  for (let i = 0; i < 200; i++) {
    const offset = 512 * chance(SIZE / 512 - 16);
    const length = 512 * (1 + chance(16));
    const at = 8192 * (i % 64);
    if (chance(3) > 0) {
      host.memory.bytes.fill(i, at, at + length);
      model.fill(i, offset, offset + length);
      expect(await ends((done) => disk.write(offset, length, [at, length], done))).toBe(0);
    } else if (chance(2) > 0) {
      model.fill(0, offset, offset + length);
      expect(await ends((done) => disk.writeZeroes(offset, length, true, done))).toBe(0);
    }
    expect(
      await ends((done) => disk.read(offset, length, [at, 512, at + 512, length - 512], done)),
    ).toBe(0);
    const got = Buffer.from(host.memory.bytes.subarray(at, at + length));
    expect(got.equals(model.subarray(offset, offset + length))).toBe(true);
  }
  disk.close();
});

it("loses nothing that it acknowledged when the server does", async () => {
  const disk = await connect();
  const model = Buffer.alloc(SIZE);
  for (let round = 0; round < 3; round++) {
    const writes = Array.from({ length: 40 }, (_, i) => {
      const offset = 4096 * ((7 * i + round) % 60);
      host.memory.bytes.fill(1 + i + round, 4096 * i, 4096 * i + 4096);
      model.fill(1 + i + round, offset, offset + 4096);
      return ends((done) => disk.write(offset, 4096, [4096 * i, 4096], done));
    });
    if (round === 1) expect(await ends((done) => disk.flush(done))).toBe(0);
    if (round !== 2) await Promise.all(writes);
    server.crash(); // in the last round amid the writes
    expect(await Promise.all(writes)).toEqual(Array(40).fill(0));
  }
  expect(await ends((done) => disk.flush(done))).toBe(0);
  expect(server.safe.equals(model)).toBe(true);
  disk.close();
});

it("passes the server's errors on", async () => {
  const disk = await connect();
  server.lie = ({ cookie }) => simple(cookie, 5, []);
  expect(await ends((done) => disk.write(0, 512, [0, 512], done))).toBe(5);
  server.lie = ({ cookie }) =>
    chunk(cookie, CHUNK.error | 1, [u32(22), Buffer.from([0, 2, 0x6e, 0x6f])], true);
  expect(await ends((done) => disk.read(0, 512, [0, 512], done))).toBe(22);
  server.lie = ({ cookie }) => chunk(cookie, CHUNK.none, [], true); // a read without data
  expect(await ends((done) => disk.read(0, 512, [0, 512], done))).toBe(5);
  disk.close();
});

it("hostile replies end the connection, never more", async () => {
  const chance = random(11);
  for (let i = 0; i < 150; i++) {
    const disk = await connect();
    const lied = new Promise<void>((resolve) => {
      server.lie = ({ cookie, offset, length }) => {
        resolve();
        const good =
          [
            simple(cookie, 0, Buffer.alloc(length)),
            chunk(cookie, CHUNK.data, [u64(offset), Buffer.alloc(length)], chance(2) === 0),
            chunk(cookie, CHUNK.hole, [u64(offset), u32(2 ** 32 - 1)], true),
            chunk(cookie + 5n, CHUNK.none, [], true),
          ][chance(4)] ?? Buffer.alloc(0);
        for (let flips = chance(4); flips >= 0; flips--)
          good[chance(Math.min(32, good.length))] = chance(256);
        return good;
      };
    });
    disk.read(0, 1024, [0, 1024], () => {});
    disk.write(0, 512, [0, 512], () => {});
    await lied;
    await new Promise((resolve) => setTimeout(resolve, 6));
    disk.close();
  }
});

it.each([
  ["is no server", (socket: Socket) => socket.write("HTTP/1.1 400 Bad Request\r\n\r\n"), /no NBD/],
  ["says nothing more", (socket: Socket) => socket.end(), /closes the connection/],
])("refuses what %s", async (_, answer, message) => {
  const path = join(folder, "other");
  const other = createServer((socket) => void answer(socket.on("error", () => {}))).listen(path);
  await expect(connectNbd(path, "")).rejects.toThrow(message);
  other.close();
});
