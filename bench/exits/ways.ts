// The five ways in which a vCPU meets a device (native/types.ts, RegisterWays), each as a port that
// the guest reads or writes in a loop.
import type { Machine } from "../../native/types.js";

export const WAYS = ["native", "shadow", "posted", "doorbell", "direct"] as const;
export type Way = (typeof WAYS)[number];

export type ExitFigures = Readonly<Record<Way, number>>;

const BASE = 0x400;
const PIC_MASK = 0x21; // the C++ model of the 8259 answers it

interface Access {
  readonly port: number;
  readonly write: boolean;
}

export const ACCESS: Readonly<Record<Way, Access>> = {
  native: { port: PIC_MASK, write: false },
  shadow: { port: BASE, write: false },
  posted: { port: BASE + 1, write: true },
  doorbell: { port: BASE + 2, write: true },
  direct: { port: BASE + 3, write: false },
};

/** Returns how often the handler was called. */
export function mapDevice(machine: Machine): () => number {
  let served = 0;
  const serve = (): number => {
    served += 1;
    return 0;
  };
  machine.bus.map(
    {
      name: "bench",
      space: "pio",
      base: BASE,
      length: 4,
      ways: [
        { at: 0, length: 1, read: "stable" },
        { at: 1, length: 1, write: "posted" },
        { at: 2, length: 1, write: "doorbell", rings: 0 },
      ],
    },
    { read: serve, write: serve, doorbell: serve },
  );
  return () => served;
}

const NOP = 0x90;
const IN_AL_DX = 0xec;
const OUT_DX_AL = 0xee;

export const exitOf = ({ write }: Access): number => (write ? OUT_DX_AL : IN_AL_DX);

/** 32-bit code: `body` so many times, then HLT (SDM Vol. 2). */
export function loop(turns: number, port: number, body: number = NOP): Uint8Array {
  const code = Buffer.alloc(16);
  code.writeUInt8(0xb9, 0); // mov ecx, turns
  code.writeUInt32LE(turns, 1);
  code.writeUInt8(0xba, 5); // mov edx, port
  code.writeUInt32LE(port, 6);
  code.set([body, 0xff, 0xc9, 0x75, 0xfb, 0xf4], 10); // 1: body; dec ecx; jnz 1b; hlt
  return code;
}
