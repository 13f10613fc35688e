// For conformance guests: a write of V to port 0xF4, of any width, ends the VM with status
// (V << 1) | 1. Never 0, so that no guest's failure looks like success.
import type { DeviceHost, Range } from "../../native/types.js";
import { allOnes } from "../bits.js";
import type { Device } from "../device.js";
import { record } from "../state.js";

const DEBUG_EXIT_PORT = 0xf4;
const LENGTH = 4;
const STATE = record({});

export interface DebugExitCallbacks {
  /** `status` as the guest gave it; an exit status of a process keeps its low eight bits. */
  exit(status: number): void;
}

export class DebugExit implements Device {
  readonly name = "debugexit";
  readonly stateVersion = 1;
  readonly #range: Range;

  constructor(host: DeviceHost, callbacks: DebugExitCallbacks) {
    this.#range = host.bus.map(
      { name: "debugexit", space: "pio", base: DEBUG_EXIT_PORT, length: LENGTH },
      {
        read: (_offset, size) => allOnes(size),
        write: (_offset, _size, value) => callbacks.exit(value * 2 + 1),
      },
    );
  }

  reset(): void {}
  save(): unknown {
    return {};
  }
  restore(state: unknown): void {
    STATE(state, this.name);
  }
  dispose(): void {
    this.#range.remove();
  }
}
