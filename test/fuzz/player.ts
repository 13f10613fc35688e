// A guest of 80 bytes that plays a list of accesses: IN and OUT of every width, loads and stores. So
// the whole way of an access is under test: the CPU, the native bus, the shared rings, the devices.
import type { GuestMemory, Machine } from "../../native/types.js";
import { applyEntry, applyFirmware } from "../../vmm/loaders/index.js";

export const WIDTHS = [1, 2, 4] as const;
export type Width = (typeof WIDTHS)[number];

export interface Access {
  readonly space: "port" | "memory";
  readonly write: boolean;
  readonly width: Width;
  readonly at: number;
  readonly value: number;
}

const CODE = 0x8000;
const HANDLERS = 0x8100;
const GDT = 0x8f00;
const LIST = 0x1_0000;
export const MOST_ACCESSES = 4000;
const RECORD = 16;

/** mov ecx,[esi]; mov edx,[esi+4]; mov eax,[esi+8]; add esi,16; jmp [HANDLERS + 4 * ecx] */
const LOOP = [
  ...[0x8b, 0x0e, 0x8b, 0x56, 0x04, 0x8b, 0x46, 0x08, 0x83, 0xc6, 0x10],
  ...[0xff, 0x24, 0x8d, HANDLERS & 0xff, HANDLERS >> 8, 0, 0],
];
/** cli; hlt; and again. */
const END = [0xfa, 0xf4, 0xeb, 0xfc];
/** Kinds from 1 on: OUT, IN, store, load, each of 1, 2 and 4 bytes. */
const BODIES: readonly (readonly number[])[] = [
  ...[[0xee], [0x66, 0xef], [0xef]],
  ...[[0xec], [0x66, 0xed], [0xed]],
  ...[
    [0x88, 0x02],
    [0x66, 0x89, 0x02],
    [0x89, 0x02],
  ],
  ...[
    [0x8a, 0x02],
    [0x66, 0x8b, 0x02],
    [0x8b, 0x02],
  ],
];

function kindOf({ space, write, width }: Access): number {
  const group = (space === "memory" ? 2 : 0) + (write ? 0 : 1);
  return 1 + 3 * group + WIDTHS.indexOf(width);
}

function program(): { code: Uint8Array; handlers: Uint8Array } {
  const code = [...LOOP];
  const places: number[] = [];
  for (const body of [END, ...BODIES]) {
    places.push(CODE + code.length);
    code.push(...body);
    const back = -(code.length + 5);
    if (body !== END) code.push(0xe9, ...[0, 8, 16, 24].map((shift) => (back >> shift) & 0xff));
  }
  return { code: Uint8Array.from(code), handlers: new Uint8Array(Uint32Array.from(places).buffer) };
}

function listOf(accesses: readonly Access[]): Uint8Array {
  const bytes = new Uint8Array(RECORD * (accesses.length + 1));
  const view = new DataView(bytes.buffer);
  for (const [index, access] of accesses.entries()) {
    view.setUint32(RECORD * index, kindOf(access), true);
    view.setUint32(RECORD * index + 4, access.at, true);
    view.setUint32(RECORD * index + 8, access.value, true);
  }
  return bytes;
}

const { code, handlers } = program();

function place(memory: GuestMemory, at: number, bytes: Uint8Array): void {
  if (!memory.write(at, bytes)) throw new Error(`no memory at 0x${at.toString(16)}`);
}

/** Of a machine that is paused: the next run plays the list and halts with interrupts off. */
export function load(machine: Machine, accesses: readonly Access[]): void {
  if (accesses.length > MOST_ACCESSES) throw new RangeError("too many accesses");
  place(machine.memory, CODE, code);
  place(machine.memory, HANDLERS, handlers);
  place(machine.memory, LIST, listOf(accesses));
  const entry = { mode: "protected", rip: CODE, rsi: LIST, gdt: GDT } as const;
  machine.setVcpu(0, applyEntry(applyFirmware(machine.vcpu(0)), entry));
}
