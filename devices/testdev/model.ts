// Latch, interrupt lines and exit-only memory, all direct: what a guest does here must be served
// before its next instruction.
import type { DeviceHost, InterruptLine, Range, RangeHandler } from "../../native/types.js";
import { readBytes, writeBytes } from "../bits.js";
import type { Device } from "../device.js";
import { fromBase64, toBase64 } from "../state.js";
import { LATCH, LINES, MEMORY, TESTDEV_STATE } from "./registers.js";

/** ISA IRQs reach both controllers; pin 2 is the 8254's, which the 8259 has as IRQ 0. */
const lineOf = ({ interrupts }: DeviceHost, gsi: number): InterruptLine =>
  gsi < 16 && gsi !== 2 ? interrupts.isa(gsi) : interrupts.ioapic(gsi);

const likeMemory = (bytes: Uint8Array): RangeHandler => ({
  read: (offset, size) => readBytes(size, (lane) => bytes[offset + lane] ?? 0xff),
  write: (offset, size, value) =>
    writeBytes(size, value, (lane, byte) => {
      bytes[offset + lane] = byte; // past the end: a typed array ignores it
    }),
});

export class TestDevice implements Device {
  readonly name = "testdev";
  readonly stateVersion = 1;
  readonly #latch = new Uint8Array(LATCH.length);
  readonly #memory = new Uint8Array(MEMORY.length);
  readonly #levels = new Array<boolean>(LINES.length).fill(false);
  readonly #lines: readonly InterruptLine[];
  readonly #ranges: readonly Range[];

  constructor(host: DeviceHost) {
    this.#lines = this.#levels.map((_, gsi) => lineOf(host, gsi));
    const lines: RangeHandler = {
      read: (offset, size) => readBytes(size, (lane) => (this.#levels[offset + lane] ? 1 : 0)),
      write: (offset, size, value) =>
        writeBytes(size, value, (lane, byte) => this.#drive(offset + lane, byte !== 0)),
    };
    this.#ranges = [
      host.bus.map({ name: "testdev-latch", space: "pio", ...LATCH }, likeMemory(this.#latch)),
      host.bus.map({ name: "testdev-lines", space: "pio", ...LINES }, lines),
      host.bus.map({ name: "testdev-memory", space: "mmio", ...MEMORY }, likeMemory(this.#memory)),
    ];
  }

  reset(): void {
    this.#latch.fill(0);
    this.#memory.fill(0);
    for (const gsi of this.#levels.keys()) this.#drive(gsi, false);
  }
  save(): unknown {
    return {
      latch: toBase64(this.#latch),
      lines: [...this.#levels],
      memory: toBase64(this.#memory),
    };
  }
  restore(state: unknown): void {
    const { latch, lines, memory } = TESTDEV_STATE(state, this.name);
    this.#latch.set(fromBase64(latch));
    this.#memory.set(fromBase64(memory));
    for (const [gsi, level] of lines.entries()) this.#drive(gsi, level);
  }
  dispose(): void {
    for (const range of this.#ranges) range.remove();
  }

  #drive(gsi: number, level: boolean): void {
    if (gsi >= this.#levels.length) return;
    this.#levels[gsi] = level;
    this.#lines[gsi]?.set(level);
  }
}
