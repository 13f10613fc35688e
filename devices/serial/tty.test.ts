import {
  closeSync,
  mkdtempSync,
  openSync,
  readSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { host } from "../../native/host.js";
import { TtyBackend } from "./tty.js";

const until = async (condition: () => boolean) => {
  for (let i = 0; i < 12_000 && !condition(); i++) await new Promise((done) => setTimeout(done, 5));
  expect(condition()).toBe(true);
};

/** What came out at the other end so far. */
function arrived(fd: number): string {
  const buffer = Buffer.alloc(65536);
  try {
    return buffer.toString("latin1", 0, readSync(fd, buffer));
  } catch (error) {
    expect(error).toHaveProperty("code", "EAGAIN");
    return "";
  }
}

it("carries bytes unchanged both ways over a terminal that is there already", async () => {
  const line = host().openPty();
  const backend = new TtyBackend(line.path);
  let typed = "";
  let sent = "";
  backend.onData((bytes) => {
    typed += Buffer.from(bytes).toString("latin1");
  });
  backend.accept(true);
  writeSync(line.fd, Buffer.from("\x03\r\x04\xff", "latin1"));
  await until(() => typed === "\x03\r\x04\xff");
  backend.write(Buffer.from("a\nb\xfe", "latin1"));
  await until(() => {
    sent += arrived(line.fd);
    return sent === "a\nb\xfe";
  });
  backend.close();
  closeSync(line.fd);
  closeSync(line.slave);
});

it("is refused where there is no terminal", () => {
  const folder = mkdtempSync(join(tmpdir(), "tty-"));
  const file = join(folder, "file");
  writeFileSync(file, "");
  const before = openSync(file, "r");
  expect(() => new TtyBackend(file)).toThrow(`${file} is not a terminal`);
  expect(() => new TtyBackend(join(folder, "none"))).toThrow("ENOENT");
  const after = openSync(file, "r");
  expect(after).toBe(before + 1); // nothing stays open
  for (const fd of [before, after]) closeSync(fd);
  rmSync(folder, { recursive: true });
});
