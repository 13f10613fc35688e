// The core's serial chips as devices see them (native/core/serial/uart.h).
import type { NativeMachine } from "./addon.js";
import type {
  InterruptLine,
  SavedComponent,
  SerialChip,
  SerialChips,
  SerialWiring,
} from "./types.js";

class NativeSerialChip implements SerialChip {
  readonly id: number;
  readonly attention: () => void;
  readonly #native: NativeMachine;
  readonly #range: number | undefined;

  constructor(
    native: NativeMachine,
    attention: () => void,
    line: number | undefined,
    wiring: SerialWiring | undefined,
  ) {
    this.#native = native;
    this.attention = attention;
    this.id = native.uart(line);
    this.#range = wiring && native.mapUart(this.id, wiring.name, wiring.port);
  }

  get interrupting(): boolean {
    return this.#native.uartInterrupting(this.id);
  }
  read(offset: number): number {
    return this.#native.uartRead(this.id, offset);
  }
  write(offset: number, value: number): void {
    this.#native.uartWrite(this.id, offset, value);
  }
  take(): Uint8Array {
    return this.#native.uartTake(this.id);
  }
  receive(bytes: Uint8Array): boolean {
    return this.#native.uartReceive(this.id, bytes);
  }
  receiveBreak(): void {
    this.#native.uartBreak(this.id);
  }
  hold(on: boolean): void {
    this.#native.uartHold(this.id, on);
  }
  reset(): void {
    this.#native.uartReset(this.id);
  }
  save(): SavedComponent {
    return JSON.parse(this.#native.uartSave(this.id)) as SavedComponent;
  }
  restore(saved: unknown): string {
    return this.#native.uartRestore(this.id, JSON.stringify(saved ?? null));
  }
  unplug(): void {
    if (this.#range !== undefined) this.#native.removeRange(this.#range);
  }
}

export class NativeSerial implements SerialChips {
  readonly #native: NativeMachine;
  readonly #lineId: (line: InterruptLine) => number;
  readonly #chips: NativeSerialChip[] = [];

  constructor(native: NativeMachine, lineId: (line: InterruptLine) => number) {
    this.#native = native;
    this.#lineId = lineId;
  }

  uart(attention: () => void, wiring?: SerialWiring): SerialChip {
    const line = wiring && this.#lineId(wiring.line);
    const chip = new NativeSerialChip(this.#native, attention, line, wiring);
    this.#chips[chip.id] = chip;
    return chip;
  }

  attend(id: number): void {
    this.#chips[id]?.attention();
  }
}
