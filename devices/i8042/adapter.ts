// The keyboard controller on ports 0x60 and 0x64, and system control port A (0x92), which reaches
// the same A20 gate. All direct: rare, and the gate must be in force when the guest goes on.
import type { DeviceHost, Range, RangeHandler } from "../../native/types.js";
import { allOnes } from "../bits.js";
import type { Device } from "../device.js";
import { I8042 } from "./model.js";
import { I8042_STATE, PORT } from "./registers.js";

export interface I8042Callbacks {
  setA20(on: boolean): void;
  /** The guest pulsed the CPU's reset line. */
  resetRequested(): void;
}

const byteWide = (read: () => number, write: (value: number) => void): RangeHandler => ({
  read: (_offset, size) => (allOnes(size) - 0xff + read()) >>> 0,
  write: (_offset, _size, value) => write(value & 0xff),
});

export class I8042Device implements Device {
  readonly name = "i8042";
  readonly stateVersion = 1;
  readonly #chip: I8042;
  readonly #ranges: readonly Range[];

  constructor(host: DeviceHost, callbacks: I8042Callbacks) {
    const line = host.interrupts.isa(1);
    const chip = new I8042({
      a20: (on) => callbacks.setA20(on),
      resetCpu: () => callbacks.resetRequested(),
      interrupt: (level) => line.set(level),
    });
    this.#chip = chip;
    const ports: readonly [string, number, RangeHandler][] = [
      [
        "i8042-data",
        PORT.data,
        byteWide(
          () => chip.readData(),
          (v) => chip.writeData(v),
        ),
      ],
      [
        "i8042-command",
        PORT.command,
        byteWide(
          () => chip.readStatus(),
          (v) => chip.writeCommand(v),
        ),
      ],
      [
        "port92",
        PORT.systemControlA,
        byteWide(
          () => chip.readSystemControlA(),
          (v) => chip.writeSystemControlA(v),
        ),
      ],
    ];
    this.#ranges = ports.map(([name, base, handler]) =>
      host.bus.map({ name, space: "pio", base, length: 1 }, handler),
    );
  }

  reset(): void {
    this.#chip.reset();
  }
  save(): unknown {
    return this.#chip.save();
  }
  restore(state: unknown): void {
    this.#chip.restore(I8042_STATE(state, this.name));
  }
  dispose(): void {
    for (const range of this.#ranges) range.remove();
  }
}
