// The 16550A chip: registers, FIFOs, interrupt logic. It has no bus, no clock and no host: bytes
// leave and arrive by calls, and the two pins tell what changed.
import { fromBase64, toBase64 } from "../state.js";
import {
  CABLE,
  DIVISOR,
  FCR,
  FIFO_DEPTH,
  IER,
  IIR,
  LCR,
  LSR,
  MCR,
  MSR,
  READ,
  RESET_DIVISOR,
  type ReadRegister,
  TRIGGER_LEVELS,
  type UartState,
  WRITE,
  type WriteRegister,
} from "./registers.js";

export interface UartPins {
  /** A byte leaves the transmitter. */
  transmit(byte: number): void;
  /** INTR behind the board's OUT2 gate; called with every recomputation. */
  interrupt(level: boolean): void;
  /** The character time-out starts anew (true) or is called off. */
  timeout(run: boolean): void;
}

interface Received {
  readonly byte: number;
  readonly isBreak: boolean;
}

export class Uart16550 {
  readonly #pins: UartPins;
  #ier = 0;
  #fcr = 0;
  #lcr = 0;
  #mcr = 0;
  #scr = 0;
  #dll = RESET_DIVISOR;
  #dlm = 0;
  #lineErrors = 0;
  /** The four input lines as the cable drives them. */
  #modem: number = CABLE;
  #deltas = 0;
  #received: Received[] = [];
  #timedOut = false;
  #transmitEmptyPending = false;
  #transmitterReady = true;

  constructor(pins: UartPins) {
    this.#pins = pins;
  }

  get loopback(): boolean {
    return (this.#mcr & MCR.loop) !== 0;
  }
  get fifosEnabled(): boolean {
    return (this.#fcr & FCR.enable) !== 0;
  }
  /** How many bytes receive() takes now without an overrun. */
  get room(): number {
    return this.loopback ? 0 : this.#depth - this.#received.length;
  }
  /** LSR has bits that reading it clears. */
  get hasLineErrors(): boolean {
    return (this.lineStatus() & LSR.errors) !== 0;
  }
  /** Baud-rate divisor; 0 counts as 65536. */
  get divisor(): number {
    return (this.#dlm << 8) | this.#dll || 0x10000;
  }
  /** Start, data, parity and stop bits of one character. */
  get bitsPerCharacter(): number {
    const parity = this.#lcr & LCR.parity ? 1 : 0;
    const stop = this.#lcr & LCR.stopBits ? 2 : 1;
    return 1 + 5 + (this.#lcr & LCR.wordLength) + parity + stop;
  }

  read(offset: number): number {
    const value = this.#readRegister(this.#forRead(offset));
    this.#update();
    return value;
  }

  write(offset: number, value: number): void {
    this.#writeRegister(this.#forWrite(offset), value & 0xff);
    this.#update();
  }

  /** What a read would give, without its side effects: for publishing and inspection. */
  peek(offset: number): number {
    const register = this.#forRead(offset);
    if (register === "rbr") return this.#received[0]?.byte ?? 0;
    if (register === "lsr") return this.lineStatus();
    if (register === "msr") return this.#modemStatus();
    return this.#readRegister(register, false);
  }

  lineStatus(): number {
    const ready = this.#received.length > 0 ? LSR.dataReady : 0;
    const empty = this.#transmitterReady ? LSR.holdingEmpty | LSR.transmitterEmpty : 0;
    const head = this.#received[0]?.isBreak ? LSR.break : 0;
    const inFifo = this.fifosEnabled && this.#received.some((r) => r.isBreak) ? LSR.fifoError : 0;
    return ready | empty | head | inFifo | this.#lineErrors;
  }

  /** From the cable. A byte too many is lost and sets OE, as on the wire. */
  receive(byte: number): void {
    if (!this.loopback) this.#push({ byte: byte & 0xff, isBreak: false });
    this.#update();
  }

  receiveBreak(): void {
    if (!this.loopback) this.#push({ byte: 0, isBreak: true });
    this.#update();
  }

  /** Four character times passed with the FIFO below its trigger and nobody reading. */
  characterTimeout(): void {
    this.#timedOut = this.fifosEnabled && this.#received.length > 0;
    this.#update();
  }

  /** The holding register (or FIFO) ran empty: all that transmit() was given has left. */
  transmitted(): void {
    if (this.#transmitterReady) this.#transmitEmptyPending = true;
    this.#update();
  }

  /** False: THRE and TEMT stay clear, so that the guest holds its output back. */
  setTransmitterReady(ready: boolean): void {
    if (ready === this.#transmitterReady) return;
    this.#transmitterReady = ready;
    this.#transmitEmptyPending = ready;
    this.#update();
  }

  /** The input lines: bits 7:4 of MSR. */
  setModemLines(lines: number): void {
    const before = this.#modemLines();
    this.#modem = lines & MSR.lines;
    this.#noteDeltas(before);
    this.#update();
  }

  /** "Master Reset": table III. The divisor, SCR and RBR are not named there; we reset them too. */
  reset(): void {
    this.#pins.timeout(false);
    this.restore(RESET_STATE);
  }

  save(): UartState {
    return {
      ier: this.#ier,
      fcr: this.#fcr,
      lcr: this.#lcr,
      mcr: this.#mcr,
      scr: this.#scr,
      dll: this.#dll,
      dlm: this.#dlm,
      lineErrors: this.#lineErrors,
      modem: this.#modem,
      deltas: this.#deltas,
      received: toBase64(Uint8Array.from(this.#received, (r) => r.byte)),
      breaks: this.#received.map((r) => r.isBreak),
      timedOut: this.#timedOut,
      transmitEmptyPending: this.#transmitEmptyPending,
      transmitterReady: this.#transmitterReady,
    };
  }

  /** The state has been checked against UART_STATE. */
  restore(state: UartState): void {
    this.#ier = state.ier & IER.all;
    this.#fcr = state.fcr;
    this.#lcr = state.lcr;
    this.#mcr = state.mcr & MCR.all;
    this.#scr = state.scr;
    this.#dll = state.dll;
    this.#dlm = state.dlm;
    this.#lineErrors = state.lineErrors & LSR.errors;
    this.#modem = state.modem & MSR.lines;
    this.#deltas = state.deltas & MSR.deltas;
    this.#received = Array.from(fromBase64(state.received), (byte, index) => ({
      byte,
      isBreak: state.breaks[index] ?? false,
    }));
    this.#timedOut = state.timedOut;
    this.#transmitEmptyPending = state.transmitEmptyPending;
    this.#transmitterReady = state.transmitterReady;
    this.#update();
  }

  get #depth(): number {
    return this.fifosEnabled ? FIFO_DEPTH : 1;
  }
  get #trigger(): number {
    return this.fifosEnabled ? (TRIGGER_LEVELS[this.#fcr >> 6] ?? 1) : 1;
  }

  #forRead(offset: number): ReadRegister {
    const bank = this.#lcr & LCR.dlab ? DIVISOR[offset] : undefined;
    return bank ?? READ[offset & 7] ?? "scr";
  }
  #forWrite(offset: number): WriteRegister {
    const bank = this.#lcr & LCR.dlab ? DIVISOR[offset] : undefined;
    return bank ?? WRITE[offset & 7] ?? "scr";
  }

  #readRegister(register: ReadRegister, effects = true): number {
    switch (register) {
      case "rbr":
        return this.#takeReceived();
      case "iir":
        return this.#identify(effects);
      case "lsr":
        return this.#takeLineStatus();
      case "msr":
        return this.#takeModemStatus();
      case "ier":
        return this.#ier;
      case "lcr":
        return this.#lcr;
      case "mcr":
        return this.#mcr;
      case "scr":
        return this.#scr;
      case "dll":
        return this.#dll;
      case "dlm":
        return this.#dlm;
    }
  }

  #writeRegister(register: WriteRegister, value: number): void {
    switch (register) {
      case "thr":
        this.#transmit(value);
        return;
      case "ier":
        this.#enable(value);
        return;
      case "fcr":
        this.#controlFifos(value);
        return;
      case "mcr":
        this.#controlModem(value);
        return;
      case "lcr":
        this.#lcr = value;
        return;
      case "scr":
        this.#scr = value;
        return;
      case "dll":
        this.#dll = value;
        return;
      case "dlm":
        this.#dlm = value;
        return;
      case "lsr": // "intended for read operations only"
      case "msr": // the delta bits may be written on real parts, to no guest's use
        return;
    }
  }

  #takeReceived(): number {
    const head = this.#received.shift();
    this.#timedOut = false;
    this.#runTimeout();
    return head?.byte ?? 0;
  }

  #takeLineStatus(): number {
    const status = this.lineStatus();
    this.#lineErrors = 0;
    const head = this.#received[0];
    if (head?.isBreak) this.#received[0] = { byte: head.byte, isBreak: false };
    return status;
  }

  #takeModemStatus(): number {
    const status = this.#modemStatus();
    this.#deltas = 0;
    return status;
  }

  #modemStatus(): number {
    return this.#modemLines() | this.#deltas;
  }

  /** "Loopback": the outputs are wired to the inputs, which the cable then no longer reaches. */
  #modemLines(): number {
    if (!this.loopback) return this.#modem;
    const wired: readonly (readonly [number, number])[] = [
      [MCR.rts, MSR.cts],
      [MCR.dtr, MSR.dsr],
      [MCR.out1, MSR.ri],
      [MCR.out2, MSR.dcd],
    ];
    return wired.reduce((lines, [out, input]) => lines | (this.#mcr & out ? input : 0), 0);
  }

  #noteDeltas(before: number): void {
    const now = this.#modemLines();
    const changed = before ^ now;
    if (changed & MSR.cts) this.#deltas |= MSR.deltaCts;
    if (changed & MSR.dsr) this.#deltas |= MSR.deltaDsr;
    if (changed & MSR.dcd) this.#deltas |= MSR.deltaDcd;
    if (changed & before & MSR.ri) this.#deltas |= MSR.trailingRi; // from on to off only
  }

  #transmit(byte: number): void {
    this.#transmitEmptyPending = false;
    if (!this.loopback) {
      this.#pins.transmit(byte);
      return;
    }
    this.#update();
    this.#push({ byte, isBreak: false });
    this.transmitted();
  }

  /** Enabling ETBEI while THRE is set raises its interrupt at once. */
  #enable(value: number): void {
    const rose = value & ~this.#ier & IER.transmitEmpty;
    this.#ier = value & IER.all;
    if (rose && this.#transmitterReady) this.#transmitEmptyPending = true;
  }

  /** "Bit 0 must be a 1 when other FCR bits are written to or they will not be programmed". */
  #controlFifos(value: number): void {
    const toggled = (value ^ this.#fcr) & FCR.enable;
    const enabled = value & FCR.enable;
    if (toggled || (enabled && value & FCR.clearReceive)) this.#clearReceived();
    this.#fcr = enabled ? value & (FCR.enable | FCR.dmaMode | FCR.trigger) : 0;
  }

  #controlModem(value: number): void {
    const before = this.#modemLines();
    this.#mcr = value & MCR.all;
    this.#noteDeltas(before);
  }

  #clearReceived(): void {
    this.#received = [];
    this.#timedOut = false;
    this.#runTimeout();
  }

  /** A full FIFO keeps what it has; the single buffer takes the new byte. Both say overrun. */
  #push(received: Received): void {
    if (this.#received.length >= this.#depth) {
      this.#lineErrors |= LSR.overrun;
      if (this.fifosEnabled) return;
      this.#received = [];
    }
    this.#received.push(received);
    this.#timedOut = false;
    this.#runTimeout();
  }

  #runTimeout(): void {
    this.#pins.timeout(this.fifosEnabled && this.#received.length > 0);
  }

  /** Table IV; reading IIR resets a transmitter interrupt that it reports. */
  #identify(effects: boolean): number {
    const source = this.#source();
    if (effects && source === IIR.transmitEmpty) this.#transmitEmptyPending = false;
    return source | (this.fifosEnabled ? IIR.fifosEnabled : 0);
  }

  #source(): number {
    if (this.#ier & IER.lineStatus && this.hasLineErrors) return IIR.lineStatus;
    if (this.#ier & IER.received && this.#received.length >= this.#trigger) return IIR.received;
    if (this.#ier & IER.received && this.#timedOut) return IIR.timeout;
    if (this.#ier & IER.transmitEmpty && this.#transmitEmptyPending) return IIR.transmitEmpty;
    if (this.#ier & IER.modemStatus && this.#deltas !== 0) return IIR.modemStatus;
    return IIR.none;
  }

  /** The one place that drives INTR. */
  #update(): void {
    this.#pins.interrupt((this.#mcr & MCR.out2) !== 0 && this.#source() !== IIR.none);
  }
}

const RESET_STATE: UartState = {
  ier: 0,
  fcr: 0,
  lcr: 0,
  mcr: 0,
  scr: 0,
  dll: RESET_DIVISOR,
  dlm: 0,
  lineErrors: 0,
  modem: CABLE,
  deltas: 0,
  received: "",
  breaks: [],
  timedOut: false,
  transmitEmptyPending: false,
  transmitterReady: true,
};
