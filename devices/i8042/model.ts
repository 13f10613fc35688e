// A keyboard controller with nothing plugged in: enough for what kernels and boot loaders do with
// it, which is to probe it, to open the A20 gate and to reset the machine.
import { fromBase64, toBase64 } from "../state.js";
import {
  COMMAND,
  CONTROL,
  type I8042State,
  INPUT_PORT,
  INTERFACE_GOOD,
  INTERFACE_STUCK,
  OUTPUT,
  OUTPUT_RESET,
  RAM_SIZE,
  RESEND,
  SELF_TEST_PASSED,
  STATUS,
  SYSTEM_CONTROL,
} from "./registers.js";

export interface I8042Pins {
  a20(on: boolean): void;
  resetCpu(): void;
  /** IRQ 1. */
  interrupt(level: boolean): void;
}

export class I8042 {
  readonly #pins: I8042Pins;
  readonly #ram = new Uint8Array(RAM_SIZE);
  #output: number = OUTPUT_RESET;
  #buffer: number | null = null;
  #timeout = false;
  #pending: number | null = null;
  #lastWasCommand = false;
  #systemFlag = false;

  constructor(pins: I8042Pins) {
    this.#pins = pins;
    this.#powerOn();
  }

  readStatus(): number {
    const full = this.#buffer === null ? 0 : STATUS.outputFull;
    const flags = this.#systemFlag ? STATUS.systemFlag : 0;
    const last = this.#lastWasCommand ? STATUS.command : 0;
    return full | flags | last | STATUS.notInhibited | (this.#timeout ? STATUS.timeout : 0);
  }

  /** An empty buffer gives its last byte again on hardware; ours gives 0. Our choice. */
  readData(): number {
    const value = this.#buffer ?? 0;
    this.#buffer = null;
    this.#timeout = false;
    this.#update();
    return value;
  }

  writeCommand(command: number): void {
    this.#lastWasCommand = true;
    this.#pending = null;
    if (command >= 0x20 && command < 0x40) this.#answer(this.#ram[command - 0x20] ?? 0);
    else if (command >= 0x60 && command < 0x80) this.#pending = command;
    else if (command >= 0xf0) this.#pulse(command);
    else this.#perform(command);
    this.#update();
  }

  writeData(value: number): void {
    this.#lastWasCommand = false;
    const pending = this.#pending;
    this.#pending = null;
    if (pending === null || pending === COMMAND.writeAux) this.#sendToNobody();
    else this.#finish(pending, value);
    this.#update();
  }

  readSystemControlA(): number {
    return this.#output & OUTPUT.a20 ? SYSTEM_CONTROL.a20 : 0;
  }

  /** The reset bit acts when it is written as 1, whatever it was. */
  writeSystemControlA(value: number): void {
    this.#setA20((value & SYSTEM_CONTROL.a20) !== 0);
    if (value & SYSTEM_CONTROL.fastReset) this.#pins.resetCpu();
  }

  reset(): void {
    this.#powerOn();
    this.#pins.a20(true);
    this.#update();
  }

  save(): I8042State {
    return {
      ram: toBase64(this.#ram),
      output: this.#output,
      buffer: this.#buffer,
      timeout: this.#timeout,
      pending: this.#pending,
      lastWasCommand: this.#lastWasCommand,
      systemFlag: this.#systemFlag,
    };
  }

  restore(state: I8042State): void {
    this.#ram.set(fromBase64(state.ram));
    this.#output = state.output;
    this.#buffer = state.buffer;
    this.#timeout = state.timeout;
    this.#pending = state.pending;
    this.#lastWasCommand = state.lastWasCommand;
    this.#systemFlag = state.systemFlag;
    this.#pins.a20((this.#output & OUTPUT.a20) !== 0);
    this.#update();
  }

  /** A20 is open, as firmware leaves it for the kernels that are loaded directly. */
  #powerOn(): void {
    this.#ram.fill(0);
    this.#ram[0] = CONTROL.systemFlag | CONTROL.translate | CONTROL.keyboardInterrupt;
    this.#output = OUTPUT_RESET;
    this.#buffer = null;
    this.#timeout = false;
    this.#pending = null;
    this.#lastWasCommand = false;
    this.#systemFlag = true;
  }

  #perform(command: number): void {
    switch (command) {
      case COMMAND.selfTest:
        this.#systemFlag = true;
        this.#answer(SELF_TEST_PASSED);
        return;
      case COMMAND.testKeyboard:
        this.#answer(INTERFACE_GOOD);
        return;
      case COMMAND.testAux:
        this.#answer(INTERFACE_STUCK);
        return;
      case COMMAND.disableAux:
        this.#setControl(CONTROL.auxDisabled, true);
        return;
      case COMMAND.enableAux:
        this.#setControl(CONTROL.auxDisabled, false);
        return;
      case COMMAND.disableKeyboard:
        this.#setControl(CONTROL.keyboardDisabled, true);
        return;
      case COMMAND.enableKeyboard:
        this.#setControl(CONTROL.keyboardDisabled, false);
        return;
      case COMMAND.readInputPort:
        this.#answer(INPUT_PORT);
        return;
      case COMMAND.readOutputPort:
        this.#answer(this.#outputPort());
        return;
      case COMMAND.disableA20:
        this.#setA20(false);
        return;
      case COMMAND.enableA20:
        this.#setA20(true);
        return;
      case COMMAND.writeOutputPort:
      case COMMAND.writeKeyboardBuffer:
      case COMMAND.writeAuxBuffer:
      case COMMAND.writeAux:
        this.#pending = command;
        return;
    }
  }

  /** The data byte of a command of two bytes. */
  #finish(command: number, value: number): void {
    if (command >= 0x60 && command < 0x80) this.#writeRam(command - 0x60, value);
    else if (command === COMMAND.writeOutputPort) this.#writeOutputPort(value);
    // Also for the auxiliary buffer: without that port the byte comes back as the keyboard's own,
    // and a driver sees at once that there is no mouse.
    else this.#answer(value);
  }

  #writeRam(index: number, value: number): void {
    this.#ram[index] = value;
    if (index === 0) this.#systemFlag = (value & CONTROL.systemFlag) !== 0;
  }

  #writeOutputPort(value: number): void {
    this.#output = value | OUTPUT.notReset;
    this.#setA20((value & OUTPUT.a20) !== 0);
    if (!(value & OUTPUT.notReset)) this.#pins.resetCpu();
  }

  /** 0xF0 to 0xFF: bits 3:0 of the output port that are 0 here go low for a moment. */
  #pulse(command: number): void {
    if (!(command & OUTPUT.notReset)) this.#pins.resetCpu();
  }

  #outputPort(): number {
    const rest = this.#output & ~OUTPUT.outputFull;
    return rest | (this.#buffer === null ? 0 : OUTPUT.outputFull);
  }

  #sendToNobody(): void {
    this.#answer(RESEND);
    this.#timeout = true;
  }

  #answer(value: number): void {
    this.#buffer = value;
    this.#timeout = false;
  }

  #setControl(bit: number, on: boolean): void {
    const control = this.#ram[0] ?? 0;
    this.#ram[0] = on ? control | bit : control & ~bit;
  }

  #setA20(on: boolean): void {
    this.#output = on ? this.#output | OUTPUT.a20 : this.#output & ~OUTPUT.a20;
    this.#pins.a20(on);
  }

  #update(): void {
    const enabled = ((this.#ram[0] ?? 0) & CONTROL.keyboardInterrupt) !== 0;
    this.#pins.interrupt(enabled && this.#buffer !== null);
  }
}
