import { existsSync, mkdtempSync, openSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { ConsoleLog } from "../../api-schema/console-log.js";
import { type SerialPort, VmError } from "../../api-schema/index.js";
import { host } from "../../native/host.js";
import { openSerial, ptyNotice, type SerialPorts } from "./serial.js";

const folder = mkdtempSync(join(tmpdir(), "xhyved-serial-"));
afterAll(() => rmSync(folder, { recursive: true }));
const file = (name: string): string => join(folder, name);

const NONE: SerialPort = { backend: "none" };
const lines: string[] = [];

function open(com1: SerialPort, com2 = NONE, pci: Record<string, SerialPort> = {}) {
  const devices = Object.entries(pci).map(([slot, serial]) => ({
    slot,
    type: "uart" as const,
    serial,
  }));
  return openSerial(
    { serial: { com1, com2 }, devices },
    {
      openLog: () => new ConsoleLog(file("console")),
      openFile: openSync,
      openPty: () => host().openPty(),
      onPty: (...pty) => void lines.push(ptyNotice(...pty)),
    },
  );
}

const close = ({ com1, com2, pci }: SerialPorts): void => {
  for (const one of [com1, com2, ...pci.values()]) one.close();
};

it("a log gets all output besides what stands at the other end", async () => {
  const ports = await open(
    { backend: "file", path: file("one"), log: file("one.log") },
    { backend: "none", log: file("two.log") },
    { "2:0": { backend: "file", path: file("pci") } },
  );
  ports.com1.write(Buffer.from("first"));
  ports.com2.write(Buffer.from("second"));
  ports.pci.get("2:0")?.write(Buffer.from("third"));
  close(ports);
  const found = ["one", "one.log", "two.log", "pci"].map((name) =>
    readFileSync(file(name), "utf8"),
  );
  expect(found).toEqual(["first", "first", "second", "third"]);
});

it("a pseudo-terminal is told in the original's words, its link too", async () => {
  lines.length = 0;
  const ports = await open({ backend: "pty" }, { backend: "pty", path: file("link") });
  const terminal = readlinkSync(file("link"));
  close(ports);
  expect(lines[0]).toMatch(/^COM1 connected to \/dev\/\S+\n$/);
  expect(lines[1]).toBe(`COM2 connected to ${terminal}\nlinkname ${file("link")}\n`);
});

it("the console is found under its log", async () => {
  const ports = await open({ backend: "console", log: file("copy") });
  ports.com1.write(Buffer.from("seen"));
  expect(ports.console?.log.end).toBe(4);
  close(ports);
  expect(readFileSync(file("copy"), "utf8")).toBe("seen");
});

const refused = (act: Promise<unknown>): Promise<string> =>
  act.then(
    () => "accepted",
    (error: unknown) => (error instanceof VmError ? `${error.code}: ${error.message}` : "broken"),
  );

it("what cannot be opened is named, and what was open before is closed", async () => {
  const link = file("gone");
  const pty: SerialPort = { backend: "pty", path: link };
  const terminal = (path: string): SerialPort => ({ backend: "terminal", path });
  const nowhere = file("none/file");
  expect(await refused(open(pty, terminal("/dev/null")))).toBe(
    "SERIAL_BACKEND_FAILED: COM2: the backend terminal failed: /dev/null is not a terminal",
  );
  expect(existsSync(link)).toBe(false);
  expect(await refused(open({ ...pty, log: nowhere }))).toContain("COM1: the backend log failed");
  expect(existsSync(link)).toBe(false);
  expect(await refused(open(NONE, NONE, { "3": { backend: "file" } }))).toBe(
    "SERIAL_PATH_MISSING: uart 3: the backend file needs a path",
  );
  const two = { "2": { backend: "stdio" } } as const;
  expect(await refused(open({ backend: "stdio" }, NONE, two))).toContain("DEVICE_ONLY_ONE");
});
