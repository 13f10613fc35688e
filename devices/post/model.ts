// Diagnostic (POST) ports: kernels write to 0x80 to pass the time, so a write costs no exit to
// JavaScript at all. Both read as all ones, as the original's 0x84 does.
import type { DeviceHost, Range } from "../../native/types.js";
import { allOnes } from "../bits.js";
import type { Device } from "../device.js";
import { record } from "../state.js";

const POST_PORTS = [0x80, 0x84] as const;
const STATE = record({});

export class PostPorts implements Device {
  readonly name = "post";
  readonly stateVersion = 1;
  readonly #ranges: readonly Range[];

  constructor(host: DeviceHost) {
    const handler = { read: (_offset: number, size: number) => allOnes(size), write: () => {} };
    this.#ranges = POST_PORTS.map((base) => {
      const ways = [{ at: 0, length: 1, read: "stable", write: "ignored" }] as const;
      const spec = {
        name: `post-${base.toString(16)}`,
        space: "pio",
        base,
        length: 1,
        ways,
      } as const;
      const range = host.bus.map(spec, handler);
      range.shadow.setUint8(0, 0xff);
      return range;
    });
  }

  reset(): void {}
  save(): unknown {
    return {};
  }
  restore(state: unknown): void {
    STATE(state, this.name);
  }
  dispose(): void {
    for (const range of this.#ranges) range.remove();
  }
}
