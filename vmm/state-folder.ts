// A saved VM: a folder with machine.json (every component's versioned state, and the definition it
// belongs to) and memory.bin (RAM below 3 GiB, then RAM from 4 GiB on; pages of zeroes are holes).
import {
  closeSync,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { type Static, Type } from "@sinclair/typebox";
import { VmDefinition } from "../api-schema/definition.js";
import { reasonOf, VmError } from "../api-schema/errors.js";
import { parse } from "../api-schema/validate.js";
import type { Gpa, GuestMemory } from "../native/types.js";
import { HIGH_MEMORY, MIB, PAGE } from "./layout.js";

const Components = Type.Record(
  Type.String(),
  Type.Object({ version: Type.Integer({ minimum: 0 }), state: Type.Unknown() }),
);

export const SavedMachine = Type.Object(
  {
    format: Type.Literal(1),
    definition: VmDefinition,
    native: Components,
    devices: Components,
    resets: Type.Integer({ minimum: 0 }),
  },
  { additionalProperties: false },
);
export type SavedMachine = Static<typeof SavedMachine>;

const MACHINE = "machine.json";
const MEMORY = "memory.bin";

/** Into a folder that must not exist; all of it is there and on disk, or nothing. */
export function writeState(folder: string, saved: SavedMachine, memory: GuestMemory): number {
  const unfinished = `${folder}.unfinished`;
  try {
    rmSync(unfinished, { recursive: true, force: true });
    mkdirSync(unfinished, { mode: 0o700 });
    if (statSync(folder, { throwIfNoEntry: false })) throw new Error("it exists already");
    writeMemory(join(unfinished, MEMORY), memory);
    writeSynced(join(unfinished, MACHINE), JSON.stringify(saved));
    renameSync(unfinished, folder);
    return memory.size;
  } catch (error) {
    rmSync(unfinished, { recursive: true, force: true });
    throw new VmError("STATE_WRITE_FAILED", [folder, reasonOf(error)], { cause: error });
  }
}

function writeSynced(path: string, text: string): void {
  const fd = openSync(path, "w", 0o600);
  try {
    writeFully(fd, Buffer.from(text), 0);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

function writeFully(fd: number, bytes: Uint8Array, at: number): void {
  for (let done = 0; done < bytes.length; ) {
    done += writeSync(fd, bytes, done, bytes.length - done, at + done);
  }
}

const zeroPage = new Uint8Array(PAGE);
const isZero = (page: Uint8Array): boolean =>
  Buffer.compare(page, zeroPage.subarray(0, page.length)) === 0;

const CHUNK = MIB;

/** (offset in the file, guest address, length) of all RAM, in chunks. */
function* chunks(memory: GuestMemory): Generator<readonly [number, Gpa, number]> {
  for (let at = 0; at < memory.size; ) {
    const low = at < memory.lowSize;
    const end = Math.min(at + CHUNK, low ? memory.lowSize : memory.size);
    yield [at, low ? at : HIGH_MEMORY + (at - memory.lowSize), end - at];
    at = end;
  }
}

function writeMemory(path: string, memory: GuestMemory): void {
  const fd = openSync(path, "wx", 0o600);
  try {
    ftruncateSync(fd, memory.size);
    const buffer = new Uint8Array(CHUNK);
    for (const [offset, gpa, length] of chunks(memory)) {
      const bytes = buffer.subarray(0, length);
      if (!memory.read(gpa, bytes)) throw new Error(`no RAM at 0x${gpa.toString(16)}`);
      for (const [start, end] of runs(bytes)) {
        writeFully(fd, bytes.subarray(start, end), offset + start);
      }
    }
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** Stretches of pages that are not all zero. */
function* runs(bytes: Uint8Array): Generator<readonly [number, number]> {
  let start = -1;
  for (let at = 0; at < bytes.length; at += PAGE) {
    const zero = isZero(bytes.subarray(at, at + PAGE));
    if (zero && start >= 0) {
      yield [start, at];
      start = -1;
    }
    if (!zero && start < 0) start = at;
  }
  if (start >= 0) yield [start, bytes.length];
}

export function readState(folder: string): SavedMachine {
  let text: string;
  try {
    text = readFileSync(join(folder, MACHINE), "utf8");
  } catch (error) {
    throw new VmError("STATE_INVALID", [folder, reasonOf(error)], { cause: error });
  }
  try {
    return parse(SavedMachine, JSON.parse(text), MACHINE);
  } catch (error) {
    throw new VmError("STATE_INVALID", [folder, reasonOf(error)], { cause: error });
  }
}

/** Into a machine whose memory is still all zero. */
export function readMemory(folder: string, memory: GuestMemory): void {
  const path = join(folder, MEMORY);
  let fd: number;
  try {
    fd = openSync(path, "r");
  } catch (error) {
    throw new VmError("STATE_INVALID", [folder, reasonOf(error)], { cause: error });
  }
  try {
    const buffer = new Uint8Array(CHUNK);
    for (const [offset, gpa, length] of chunks(memory)) {
      const bytes = buffer.subarray(0, length);
      if (!readFully(fd, bytes, offset)) {
        throw new VmError("STATE_INVALID", [folder, `${MEMORY} is shorter than the memory`]);
      }
      for (const [start, end] of runs(bytes)) memory.write(gpa + start, bytes.subarray(start, end));
    }
  } finally {
    closeSync(fd);
  }
}

function readFully(fd: number, into: Uint8Array, at: number): boolean {
  for (let done = 0; done < into.length; ) {
    const count = readSync(fd, into, done, into.length - done, at + done);
    if (count === 0) return false;
    done += count;
  }
  return true;
}
