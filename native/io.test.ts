// File I/O through the addon, with real files.
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createMachine } from "./index.js";
import type { FileOperation, HostFile, Machine } from "./types.js";

const MIB = 2 ** 20;
const EBADF = 9;
const EFAULT = 14;

let folder: string;
let path: string;
let machine: Machine;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "xhyved-io-"));
  path = join(folder, "disk");
  machine = createMachine({ cpus: 1, memory: 16 * MIB, accelerator: "soft" });
});
afterEach(async () => {
  await machine.destroy();
  rmSync(folder, { recursive: true });
});

const open = (flags = "r+"): HostFile => machine.io.file(openSync(path, flags));
const run = (
  file: HostFile,
  operation: FileOperation,
  offset = 0,
  length = 0,
  pieces: readonly number[] = [],
): Promise<number> => new Promise((done) => file.submit(operation, offset, length, pieces, done));

describe("a file", () => {
  it("is written from guest memory and read into it, in pieces", async () => {
    writeFileSync(path, Buffer.alloc(8192));
    const file = open();
    machine.memory.write(0x5000, Buffer.from("first"));
    machine.memory.write(0x9000, Buffer.from("second"));
    expect(await run(file, "write", 4096, 11, [0x5000, 5, 0x9000, 6])).toBe(0);
    expect(await run(file, "sync")).toBe(0);
    expect(readFileSync(path).toString("latin1", 4096, 4107)).toBe("firstsecond");
    expect(await run(file, "read", 4096, 11, [0x20000, 3, 0x30000, 8])).toBe(0);
    const got = new Uint8Array(8);
    machine.memory.read(0x30000, got);
    expect(Buffer.from(got).toString()).toBe("stsecond");
  });

  it("can be zeroed and punched", async () => {
    writeFileSync(path, Buffer.alloc(65536, 7));
    const file = open();
    expect(await run(file, "zero", 100, 200)).toBe(0);
    expect(await run(file, "unmap", 4096, 8192)).toBe(0);
    expect(await run(file, "discard", 32768, 4096)).toBe(0);
    const bytes = readFileSync(path);
    expect([bytes[99], bytes[100], bytes[299], bytes[300], bytes[4096], bytes[12288]]).toEqual([
      7, 0, 0, 7, 0, 7,
    ]);
    expect(bytes.length).toBe(65536);
  });

  it("says what failed", async () => {
    writeFileSync(path, Buffer.alloc(512));
    const file = open("r");
    expect(await run(file, "write", 0, 512, [0, 512])).toBe(EBADF);
    expect(await run(file, "read", 0, 512, [16 * MIB, 512])).toBe(EFAULT);
    expect(await run(file, "read", 0, 512, [Number.MAX_SAFE_INTEGER, 512])).toBe(EFAULT);
  });

  it("takes thousands of requests at once, each of which ends once", async () => {
    writeFileSync(path, Buffer.alloc(MIB));
    const file = open();
    const all = Array.from({ length: 3000 }, (_, i) =>
      run(file, i % 3 ? "read" : "write", 256 * i, 256, [4096 * (i % 100), 256]),
    );
    expect(new Set(await Promise.all(all))).toEqual(new Set([0]));
  });

  it("is heard of no more after cancel or close", async () => {
    writeFileSync(path, Buffer.alloc(MIB));
    const file = open();
    let ended = 0;
    const count = () => ended++;
    for (let i = 0; i < 50; i++) file.submit("write", 0, MIB, [0, MIB], count);
    file.cancel();
    for (let i = 0; i < 50; i++) file.submit("write", 0, MIB, [0, MIB], count);
    await Promise.resolve();
    file.cancel();
    ended = 0; // a few may have ended before
    file.submit("write", 0, 512, [0, 512], count);
    file.close();
    await new Promise((done) => setTimeout(done, 20));
    expect(ended).toBe(0);
  });

  it("may be under way when the machine is destroyed", async () => {
    writeFileSync(path, Buffer.alloc(MIB));
    const file = open();
    for (let i = 0; i < 20; i++) file.submit("write", 0, MIB, [0, MIB], () => {});
    await Promise.resolve();
    await machine.destroy();
    file.cancel();
    file.close();
    closeSync(openSync(path, "r"));
  });
});
