// Network ports over real sockets, as a card has them.
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { createMachine } from "./index.js";
import type { Machine, NetPort } from "./types.js";

const HEADER = 12;
const FRAME = 60;
const PACKET_BLOCK = 6;

let folder: string;
let machine: Machine;
const others: number[] = [];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "xhyved-net-"));
  machine = createMachine({ cpus: 1, memory: 2 ** 20, accelerator: "soft" });
});
afterEach(async () => {
  for (const fd of others.splice(0)) closeSync(fd);
  await machine.destroy();
  rmSync(folder, { recursive: true });
});

function pair(): NetPort {
  const { port, fd } = machine.net.pair();
  others.push(fd);
  port.agree({ header: HEADER, mergeable: true, checksums: false, accepts: 0 });
  return port;
}

function send(port: NetPort, fill: number): void {
  machine.memory.write(0, new Uint8Array(HEADER));
  machine.memory.write(HEADER, new Uint8Array(FRAME).fill(fill));
  expect(port.send([[0, HEADER + FRAME]]).count).toBe(1);
}

/** The first byte of each captured frame (pcapng, "Enhanced Packet Block"). */
function captured(file: string): number[] {
  const bytes = readFileSync(file);
  const found: number[] = [];
  for (let at = 0; at < bytes.length; at += bytes.readUInt32LE(at + 4))
    if (bytes.readUInt32LE(at) === PACKET_BLOCK) found.push(bytes.readUInt8(at + 28));
  return found;
}

it("goes on with a capture at another port, in the same file", () => {
  const file = join(folder, "capture.pcapng");
  const [first, second] = [pair(), pair()];
  expect(first.takeCapture()).toBeUndefined();
  first.capture({ fd: openSync(file, "wx"), name: "card", limit: 2 ** 20, snap: 2 ** 16 });
  send(first, 1);
  const running = first.takeCapture();
  if (running === undefined) throw new Error("there is no capture");
  first.close();
  expect(captured(file)).toEqual([1]);
  second.continueCapture(running);
  send(second, 2);
  expect(second.statistics()).toMatchObject({ capturedFrames: 2, captureEnded: "" });
  second.continueCapture(running);
  send(second, 3);
  second.capture(undefined);
  send(second, 4);
  expect(captured(file)).toEqual([1, 2, 3]);
  expect(() => second.continueCapture({})).toThrow("a capture that a port gave");
  second.close();
});
