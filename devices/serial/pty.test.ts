import {
  closeSync,
  constants,
  existsSync,
  mkdtempSync,
  openSync,
  readlinkSync,
  readSync,
  rmSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { host } from "../../native/host.js";
import { PtyBackend } from "./pty.js";

const { O_RDWR, O_NOCTTY, O_NONBLOCK } = constants;

/** What a person's terminal program does. */
class Person {
  readonly #fd: number;
  got = "";
  constructor(path: string) {
    this.#fd = openSync(path, O_RDWR | O_NOCTTY | O_NONBLOCK);
  }
  read(): string {
    const buffer = Buffer.alloc(65536);
    try {
      for (;;) this.got += buffer.toString("latin1", 0, readSync(this.#fd, buffer));
    } catch (error) {
      expect(error).toHaveProperty("code", "EAGAIN");
    }
    return this.got;
  }
  type(text: string): void {
    writeSync(this.#fd, text);
  }
  leave(): void {
    closeSync(this.#fd);
  }
}

const until = async (condition: () => boolean) => {
  for (let i = 0; i < 12_000 && !condition(); i++) await new Promise((done) => setTimeout(done, 5));
  expect(condition()).toBe(true);
};

it("carries bytes unchanged both ways, to one person after the other", async () => {
  const folder = mkdtempSync(join(tmpdir(), "pty-"));
  const link = join(folder, "com1");
  const backend = new PtyBackend(host().openPty(), link);
  expect(readlinkSync(link)).toBe(backend.path);
  let typed = "";
  backend.onData((bytes) => {
    typed += Buffer.from(bytes).toString("latin1");
  });
  for (const name of ["ann", "bob"]) {
    const person = new Person(link);
    backend.write(Buffer.from("login:\r\n\x03\xff", "latin1"));
    await until(() => person.read() === "login:\r\n\x03\xff");
    person.type(`${name}\r\x03`);
    await until(() => typed.endsWith(`${name}\r\x03`));
    person.leave();
  }
  expect(typed).toBe("ann\r\x03bob\r\x03");
  backend.close();
  expect(existsSync(link)).toBe(false);
  rmSync(folder, { recursive: true });
});

it("with nobody attached asks to hold back instead of waiting, and loses nothing", async () => {
  const backend = new PtyBackend(host().openPty());
  let drained = false;
  backend.onDrain(() => {
    drained = true;
  });
  let sent = 0;
  for (let ready = true; ready; sent += 1000) ready = backend.write(Buffer.alloc(1000, 46));
  expect(sent).toBeLessThan(100_000);
  const person = new Person(backend.path);
  await until(() => person.read().length === sent);
  await until(() => drained);
  person.leave();
  backend.close();
});
