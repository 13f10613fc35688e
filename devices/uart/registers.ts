// National Semiconductor PC16550D data sheet, "Registers" (table II) and the section of each.
import { base64, flag, list, nanoseconds, optional, record, type StateOf, u8 } from "../state.js";

/** Offset, bank (DLAB) and direction name one register. */
export const READ = ["rbr", "ier", "iir", "lcr", "mcr", "lsr", "msr", "scr"] as const;
export const WRITE = ["thr", "ier", "fcr", "lcr", "mcr", "lsr", "msr", "scr"] as const;
export const DIVISOR = ["dll", "dlm"] as const;
export type ReadRegister = (typeof READ)[number] | (typeof DIVISOR)[number];
export type WriteRegister = (typeof WRITE)[number] | (typeof DIVISOR)[number];

export const OFFSET = {
  data: 0,
  ier: 1,
  iirFcr: 2,
  lcr: 3,
  mcr: 4,
  lsr: 5,
  msr: 6,
  scr: 7,
} as const;
export const LENGTH = 8;

/** "Interrupt Enable Register" */
export const IER = {
  received: 1,
  transmitEmpty: 2,
  lineStatus: 4,
  modemStatus: 8,
  all: 0x0f,
} as const;

/** "Interrupt Identification Register", table IV: the value of bits 3:0 in order of priority. */
export const IIR = {
  none: 0x1,
  lineStatus: 0x6,
  received: 0x4,
  timeout: 0xc,
  transmitEmpty: 0x2,
  modemStatus: 0x0,
  fifosEnabled: 0xc0,
} as const;

/** "FIFO Control Register" */
export const FCR = {
  enable: 1,
  clearReceive: 2,
  clearTransmit: 4,
  dmaMode: 8,
  trigger: 0xc0,
} as const;
export const TRIGGER_LEVELS = [1, 4, 8, 14] as const;
export const FIFO_DEPTH = 16;

/** "Line Control Register" */
export const LCR = { wordLength: 3, stopBits: 4, parity: 8, break: 0x40, dlab: 0x80 } as const;

/** "MODEM Control Register". OUT2 gates the interrupt on the PC's board. */
export const MCR = { dtr: 1, rts: 2, out1: 4, out2: 8, loop: 0x10, all: 0x1f } as const;

/** "Line Status Register" */
export const LSR = {
  dataReady: 1,
  overrun: 2,
  parity: 4,
  framing: 8,
  break: 0x10,
  holdingEmpty: 0x20,
  transmitterEmpty: 0x40,
  fifoError: 0x80,
  errors: 0x1e,
} as const;

/** "MODEM Status Register" */
export const MSR = {
  deltaCts: 1,
  deltaDsr: 2,
  trailingRi: 4,
  deltaDcd: 8,
  deltas: 0x0f,
  cts: 0x10,
  dsr: 0x20,
  ri: 0x40,
  dcd: 0x80,
  lines: 0xf0,
} as const;

/** Our choice: a cable to a modem that is always there and always ready. */
export const CABLE = MSR.cts | MSR.dsr | MSR.dcd;

/** The PC's 1.8432 MHz crystal, divided by 16: "Programmable Baud Generator". */
export const BASE_BAUD = 115_200;
/** 9600 baud, what a PC's firmware leaves. Our choice: the data sheet has it undefined. */
export const RESET_DIVISOR = 12;

export const UART_STATE = record({
  ier: u8,
  fcr: u8,
  lcr: u8,
  mcr: u8,
  scr: u8,
  dll: u8,
  dlm: u8,
  lineErrors: u8,
  modem: u8,
  deltas: u8,
  /** Received bytes, oldest first, and which of them came as a break. */
  received: base64(FIFO_DEPTH, false),
  breaks: list(flag, FIFO_DEPTH),
  timedOut: flag,
  transmitEmptyPending: flag,
  transmitterReady: flag,
});
export type UartState = StateOf<typeof UART_STATE>;

export const PORT_STATE = record({
  chip: UART_STATE,
  /** When the character time-out falls due. */
  timeoutAt: optional(nanoseconds),
  /** What the host sent and the receiver had no room for. */
  waiting: base64(64 * 1024, false),
});
export type PortState = StateOf<typeof PORT_STATE>;
