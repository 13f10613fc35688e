// The original's test device: scratch registers behind three BARs, and MSI that nothing raises.
import type { RangeHandler } from "../../native/types.js";
import { readBytes, writeBytes } from "../bits.js";
import type { Device } from "../device.js";
import { PciFunction } from "../pci/function.js";
import { base64, fromBase64, record, type Shape, toBase64 } from "../state.js";

const IDENTITY = { vendor: 0x10dd, device: 0x0001, classCode: 0x020000 } as const;
const [IO_SIZE, MEMORY_SIZE] = [8, 4096];

const anything: Shape<unknown> = (value) => value;
const STATE = record({
  function: anything,
  io: base64(IO_SIZE),
  first: base64(MEMORY_SIZE),
  second: base64(MEMORY_SIZE),
});

const scratch = (bytes: Uint8Array): RangeHandler => ({
  read: (offset, size) => readBytes(size, (lane) => bytes[offset + lane] ?? 0),
  write: (offset, size, value) =>
    writeBytes(size, value, (lane, byte) => {
      bytes[offset + lane] = byte;
    }),
});

export class DummyDevice implements Device {
  readonly name: string;
  readonly stateVersion = 1;
  /** For the bus, which must have it before the guest runs. */
  readonly pciFunction: PciFunction;
  readonly #io = new Uint8Array(IO_SIZE);
  readonly #first = new Uint8Array(MEMORY_SIZE);
  readonly #second = new Uint8Array(MEMORY_SIZE);

  constructor(name: string) {
    this.name = name;
    this.pciFunction = new PciFunction({
      name,
      ...IDENTITY,
      msi: { messages: 4 },
      bars: [
        { index: 0, kind: "io", size: IO_SIZE, handler: scratch(this.#io) },
        { index: 1, kind: "mem32", size: MEMORY_SIZE, handler: scratch(this.#first) },
        { index: 2, kind: "mem32", size: MEMORY_SIZE, handler: scratch(this.#second) },
      ],
    });
  }

  reset(): void {
    for (const bytes of [this.#io, this.#first, this.#second]) bytes.fill(0);
    this.pciFunction.reset();
  }
  save(): unknown {
    return {
      function: this.pciFunction.save(),
      io: toBase64(this.#io),
      first: toBase64(this.#first),
      second: toBase64(this.#second),
    };
  }
  restore(state: unknown): void {
    const saved = STATE(state, this.name);
    this.pciFunction.restore(saved.function);
    this.#io.set(fromBase64(saved.io));
    this.#first.set(fromBase64(saved.first));
    this.#second.set(fromBase64(saved.second));
  }
  dispose(): void {
    this.pciFunction.dispose();
  }
}
