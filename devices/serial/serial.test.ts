import { execFileSync, spawn } from "node:child_process";
import {
  closeSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough, Writable } from "node:stream";
import { setImmediate as turn } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  ConsoleLog,
  consoleGaps,
  type LogFiles,
  readConsoleLog,
} from "../../api-schema/console-log.js";
import { NoneBackend } from "./backend.js";
import { ConsoleBackend } from "./console.js";
import { FileBackend } from "./file.js";
import { SocketBackend } from "./socket.js";
import { StdioBackend } from "./stdio.js";
import { StreamBackend } from "./stream.js";
import { TeeBackend } from "./tee.js";

const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, "latin1"));
const text = (data: Uint8Array): string => Buffer.from(data).toString("latin1");

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "serial-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Everything from `offset` on, as a reader that follows gaps would see it. */
function readAll(base: string, offset = 0): string {
  let out = "";
  for (let at = offset; ; ) {
    const read = readConsoleLog(base, at, 7);
    if (read.bytes.length === 0) return out;
    out += text(read.bytes);
    at = read.offset + read.bytes.length;
  }
}

describe("console log", () => {
  const base = () => join(folder, "console.log");

  it("gives back from any offset what was written, and where it ends", () => {
    const log = new ConsoleLog(base());
    log.append(bytes("hello, "));
    log.append(bytes("world"));
    expect(readAll(base())).toBe("hello, world");
    const read = readConsoleLog(base(), 7, 100);
    expect([text(read.bytes), read.offset, read.first, read.end]).toEqual(["world", 7, 0, 12]);
    const past = readConsoleLog(base(), 99, 100);
    expect([past.bytes.length, past.offset]).toEqual([0, 12]);
    expect([log.end, log.read(0, 5).bytes.length]).toEqual([12, 5]);
  });

  it("keeps at most its limit, whole from the first offset kept", () => {
    const log = new ConsoleLog(base(), 1000);
    let all = "";
    for (let i = 0; i < 500; i++) {
      const line = `line ${i}\n`;
      log.append(bytes(line));
      all += line;
    }
    const { first, end } = readConsoleLog(base(), 0, 1);
    expect(end).toBe(all.length);
    expect(end - first).toBeGreaterThanOrEqual(500);
    expect(end - first).toBeLessThanOrEqual(1000);
    expect(readAll(base())).toBe(all.slice(first));
    const disk = readdirSync(folder).reduce(
      (sum, name) => sum + statSync(join(folder, name)).size,
      0,
    );
    expect(disk).toBeLessThanOrEqual(1000);
  });

  it("goes on where it was when it is opened again", () => {
    const one = new ConsoleLog(base(), 100);
    one.append(bytes("a".repeat(130)));
    one.close();
    const two = new ConsoleLog(base(), 100);
    two.append(bytes("b"));
    expect([two.end, readAll(base(), 128)]).toEqual([131, "aab"]);
  });

  it("is plain files", () => {
    new ConsoleLog(base()).append(bytes("plain\n"));
    expect(readFileSync(join(folder, "console.log.0000000000000000"), "latin1")).toBe("plain\n");
  });

  it("is read through no link, and waits for no pipe, that who writes it has put there", () => {
    const segment = (start: number): string => `${base()}.${String(start).padStart(16, "0")}`;
    const secret = join(folder, "secret");
    writeFileSync(secret, "of another user");
    symlinkSync(secret, segment(0));
    execFileSync("mkfifo", [segment(100)]);
    writeFileSync(segment(200), "own");
    const { offset, bytes: found, end } = readConsoleLog(base(), 0, 100);
    expect([offset, Buffer.from(found).toString(), end]).toEqual([200, "own", 203]);
    rmSync(segment(200));
    expect(readConsoleLog(base(), 0, 100).bytes).toHaveLength(0);
  });

  it("takes one append larger than the whole of it", () => {
    const log = new ConsoleLog(base(), 64);
    log.append(bytes(`${"x".repeat(500)}end`));
    expect(readAll(base()).endsWith("xend")).toBe(true);
    expect(log.end).toBe(503);
  });

  it("records a gap while the disk is full, and goes on after it", () => {
    let full = false;
    let room = 0;
    const files: LogFiles = {
      open: (path) => openSync(path, "a"),
      close: closeSync,
      remove: (path) => rmSync(path, { force: true }),
      write: (fd, data) => {
        if (!full) return writeSync(fd, data);
        if (room === 0) throw Object.assign(new Error("ENOSPC: no space left"), { code: "ENOSPC" });
        return writeSync(fd, data.subarray(0, room--));
      },
    };
    const log = new ConsoleLog(base(), 1000, files);
    log.append(bytes("before "));
    full = true;
    room = 1;
    log.append(bytes("lost"));
    log.append(bytes(" too"));
    expect([log.lost, log.failure]).toEqual([7, "ENOSPC: no space left"]);
    full = false;
    log.append(bytes("after"));
    expect([log.lost, log.failure, log.end]).toEqual([7, undefined, 20]);
    expect(readAll(base())).toBe("before lafter");
    expect(consoleGaps(base())).toEqual([{ from: 8, to: 15 }]);
    expect(readConsoleLog(base(), 9, 100).offset).toBe(15);
    expect(new ConsoleLog(base()).end).toBe(20);
  });

  it("never throws where its folder is gone", () => {
    const log = new ConsoleLog(join(folder, "no", "such", "console.log"));
    log.append(bytes("x"));
    expect([log.lost, log.end, log.failure?.startsWith("ENOENT")]).toEqual([1, 1, true]);
  });

  it("is not confused by other files beside it", () => {
    writeFileSync(join(folder, "console.log.old"), "x");
    writeFileSync(join(folder, "console.log.1"), "x");
    expect(readConsoleLog(base(), 0, 10).end).toBe(0);
  });
});

describe("console", () => {
  it("logs, tells followers the offset, and types into the guest when it accepts", () => {
    const console = new ConsoleBackend(new ConsoleLog(join(folder, "console.log")));
    const seen: [number, string][] = [];
    const typed: string[] = [];
    console.onData((data) => typed.push(text(data)));
    console.write(bytes("one"));
    const stop = console.follow((offset, data) => seen.push([offset, text(data)]));
    console.write(bytes("two"));
    stop();
    console.write(bytes("three"));
    expect(seen).toEqual([[3, "two"]]);
    console.accept(false);
    expect(console.send(bytes("ls\n"))).toBe(3);
    expect(typed).toEqual([]);
    console.accept(true);
    expect(typed).toEqual(["ls\n"]);
  });

  it("takes no more input than it can hold", () => {
    const console = new ConsoleBackend(new ConsoleLog(join(folder, "console.log")));
    console.accept(false);
    expect(console.send(new Uint8Array(70_000))).toBe(65_536);
    expect(console.send(bytes("x"))).toBe(0);
  });
});

describe("streams", () => {
  it("carry bytes both ways and stop when told", async () => {
    const input = new PassThrough();
    const output = new PassThrough();
    const backend = new StreamBackend(input, output);
    const typed: string[] = [];
    backend.onData((data) => typed.push(text(data)));
    input.write("a");
    await turn();
    backend.accept(false);
    input.write("b");
    await turn();
    expect(typed).toEqual(["a"]);
    backend.accept(true);
    await turn();
    expect([typed.join(""), backend.write(bytes("out"))]).toEqual(["ab", true]);
    expect(output.read().toString()).toBe("out");
  });

  it("ask to hold back, say when to go on, and bound what is kept", async () => {
    const taken: (() => void)[] = [];
    const slow = new Writable({ write: (_chunk, _encoding, done) => void taken.push(done) });
    const backend = new StreamBackend(undefined, slow);
    let drains = 0;
    backend.onDrain(() => drains++);
    expect(backend.write(new Uint8Array(100_000))).toBe(false);
    for (let i = 0; i < 20; i++) backend.write(new Uint8Array(100_000));
    expect(backend.backlog).toBeLessThanOrEqual(1024 * 1024);
    expect(backend.lost).toBe(21 * 100_000 - backend.backlog);
    while (taken.length > 0) {
      taken.shift()?.();
      await turn();
    }
    expect([drains > 0, backend.backlog]).toEqual([true, 0]);
  });

  it("outlive a peer that goes away", async () => {
    const output = new PassThrough();
    const backend = new StreamBackend(undefined, output);
    output.destroy(new Error("EPIPE"));
    await turn();
    expect([backend.write(bytes("gone")), backend.lost]).toEqual([true, 4]);
  });
});

describe("stdio", () => {
  it("puts a terminal into raw mode and back", () => {
    const modes: boolean[] = [];
    const input = Object.assign(new PassThrough(), {
      isTTY: true,
      setRawMode: (on: boolean) => modes.push(on),
    });
    const backend = new StdioBackend({ input, output: new PassThrough() });
    expect(modes).toEqual([true]);
    backend.close();
    expect(modes).toEqual([true, false]);
  });

  it("does without a terminal", () => {
    const output = new PassThrough();
    const backend = new StdioBackend({ input: new PassThrough(), output });
    backend.write(bytes("x"));
    backend.close();
    expect(output.read().toString()).toBe("x");
  });

  it("of a process whose reader stalls does not stop the process", async () => {
    // The plainest form of what StdioBackend writes to: a pipe that nobody reads.
    const script = `
      let on = process.stdout.write(Buffer.alloc(4 * 1024 * 1024, 46));
      setTimeout(() => { process.stderr.write(on ? "took all" : "alive"); process.exit(0); }, 50);`;
    const child = spawn(process.execPath, ["-e", script], { stdio: ["ignore", "pipe", "pipe"] });
    child.stdout.pause();
    let said = "";
    child.stderr.on("data", (data) => {
      said += data;
    });
    await new Promise((resolve) => child.on("exit", resolve));
    expect(said).toBe("alive");
  });
});

describe("file", () => {
  it("appends, and moves a full file away", () => {
    const path = join(folder, "com2.txt");
    writeFileSync(path, "kept ");
    const backend = new FileBackend(path, undefined, 100);
    backend.write(bytes("first"));
    expect(readFileSync(path, "latin1")).toBe("kept first");
    backend.write(bytes("y".repeat(45)));
    expect(readFileSync(`${path}.1`, "latin1")).toBe("kept first");
    expect([readFileSync(path, "latin1").length, backend.lost]).toEqual([45, 0]);
    backend.close();
  });

  it("that is full loses output and nothing else", () => {
    const backend = new FileBackend("/dev/full");
    expect([backend.write(bytes("abc")), backend.lost]).toEqual([true, 3]);
    backend.close();
  });

  it("that cannot be opened is told at once", () => {
    expect(() => new FileBackend(join(folder, "no", "file"))).toThrow("ENOENT");
  });
});

describe("socket", () => {
  const client = (path: string) =>
    new Promise<{ send(data: string): void; end(): void; got(): string }>((resolve) => {
      const socket = connect(path, () =>
        resolve({ send: (data) => socket.write(data), end: () => socket.end(), got: () => got }),
      );
      let got = "";
      socket.on("data", (data) => {
        got += data.toString("latin1");
      });
    });
  const until = async (condition: () => boolean) => {
    for (let i = 0; i < 12_000 && !condition(); i++)
      await new Promise((done) => setTimeout(done, 5));
    expect(condition()).toBe(true);
  };

  it("has many readers and the first of them writes; then the next", async () => {
    const path = join(folder, "com1.sock");
    const backend = await SocketBackend.listen(path);
    const typed: string[] = [];
    backend.onData((data) => typed.push(text(data)));
    const one = await client(path);
    await until(() => backend.clients === 1);
    const two = await client(path);
    await until(() => backend.clients === 2);
    backend.write(bytes("login: "));
    await until(() => one.got() === "login: " && two.got() === "login: ");
    two.send("no");
    one.send("root");
    await until(() => typed.join("") === "root");
    one.end();
    await until(() => backend.clients === 1);
    two.send("next");
    await until(() => typed.join("") === "rootnext");
    backend.close();
    expect(readdirSync(folder)).toEqual([]);
  });

  it("drops a reader that does not read, and never holds the guest back", async () => {
    const path = join(folder, "com1.sock");
    const backend = await SocketBackend.listen(path);
    const slow = connect(path).pause();
    await until(() => backend.clients === 1);
    for (let i = 0; i < 100 && backend.clients === 1; i++) {
      expect(backend.write(new Uint8Array(64 * 1024))).toBe(true);
      await turn();
    }
    expect(backend.clients).toBe(0);
    slow.destroy();
    backend.close();
  });

  it("refuses a path that somebody listens on", async () => {
    const path = join(folder, "com1.sock");
    const backend = await SocketBackend.listen(path);
    await expect(SocketBackend.listen(path)).rejects.toThrow("EADDRINUSE");
    backend.close();
  });

  it("replaces one that a killed process left behind", async () => {
    const path = join(folder, "com1.sock");
    const script = `require("net").createServer().listen(${JSON.stringify(path)},
      () => process.kill(process.pid, "SIGKILL"));`;
    const child = spawn(process.execPath, ["-e", script], { stdio: "ignore" });
    await new Promise((resolve) => child.on("exit", resolve));
    expect(readdirSync(folder)).toEqual(["com1.sock"]);
    (await SocketBackend.listen(path)).close();
  });
});

it("a tee writes to all, types from any, and waits for the slowest", () => {
  const slow = new NoneBackend();
  let drain = () => {};
  slow.write = () => false;
  slow.onDrain = ((listener: () => void) => {
    drain = listener;
  }) as () => void;
  const console = new ConsoleBackend(new ConsoleLog(join(folder, "console.log")));
  const tee = new TeeBackend([console, slow]);
  const typed: string[] = [];
  let drains = 0;
  tee.onData((data) => typed.push(text(data)));
  tee.onDrain(() => drains++);
  expect(tee.write(bytes("x"))).toBe(false);
  drain();
  console.send(bytes("y"));
  expect([drains, typed, console.log.end]).toEqual([1, ["y"], 1]);
  tee.close();
});
