// The reset control register: RST_CPU going from 0 to 1 resets, SYS_RST and FULL_RST say how.
import type { Device } from "../device.js";
import { RESET_CONTROL, RESET_STATE, WRITABLE } from "./registers.js";

/** soft: INIT to the CPU; hard: PLTRST#; full: with a power cycle. A VM treats them alike. */
export type ResetKind = "soft" | "hard" | "full";

export interface ResetCallbacks {
  resetRequested(kind: ResetKind): void;
}

const kindOf = (control: number): ResetKind => {
  if (!(control & RESET_CONTROL.systemReset)) return "soft";
  return control & RESET_CONTROL.fullReset ? "full" : "hard";
};

export class ResetControl implements Device {
  readonly name = "reset-control";
  readonly stateVersion = 1;
  readonly #callbacks: ResetCallbacks;
  #control = 0;

  constructor(callbacks: ResetCallbacks) {
    this.#callbacks = callbacks;
  }

  read(): number {
    return this.#control;
  }
  write(value: number): void {
    const rose = value & ~this.#control & RESET_CONTROL.resetCpu;
    this.#control = value & WRITABLE;
    if (rose) this.#callbacks.resetRequested(kindOf(value));
  }

  reset(): void {
    this.#control = 0;
  }
  save(): unknown {
    return { control: this.#control };
  }
  restore(state: unknown): void {
    this.#control = RESET_STATE(state, this.name).control & WRITABLE;
  }
}
