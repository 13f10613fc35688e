// The PC/AT keyboard controller: IBM PC/AT Technical Reference, "Keyboard Controller", and Intel
// 8042; port 0x92: IBM PS/2 Hardware Interface Technical Reference, "System Control Port A".
import { base64, flag, optional, record, type StateOf, u8 } from "../state.js";

export const PORT = { data: 0x60, command: 0x64, systemControlA: 0x92 } as const;

/** "Status Register" */
export const STATUS = {
  outputFull: 0x01,
  systemFlag: 0x04,
  command: 0x08,
  notInhibited: 0x10,
  auxFull: 0x20,
  timeout: 0x40,
} as const;

/** "Command Byte" (controller RAM byte 0) */
export const CONTROL = {
  keyboardInterrupt: 0x01,
  systemFlag: 0x04,
  keyboardDisabled: 0x10,
  auxDisabled: 0x20,
  translate: 0x40,
} as const;

/** "Output Port". Bit 0 low resets the CPU. */
export const OUTPUT = { notReset: 0x01, a20: 0x02, outputFull: 0x10 } as const;
export const OUTPUT_RESET = 0xcf;

/** "Input Port": bit 7, the keyboard is not locked; bit 5, no manufacturing jumper. */
export const INPUT_PORT = 0xa0;

export const COMMAND = {
  disableAux: 0xa7,
  enableAux: 0xa8,
  testAux: 0xa9,
  selfTest: 0xaa,
  testKeyboard: 0xab,
  disableKeyboard: 0xad,
  enableKeyboard: 0xae,
  readInputPort: 0xc0,
  readOutputPort: 0xd0,
  writeOutputPort: 0xd1,
  writeKeyboardBuffer: 0xd2,
  writeAuxBuffer: 0xd3,
  writeAux: 0xd4,
  disableA20: 0xdd,
  enableA20: 0xdf,
} as const;

export const SELF_TEST_PASSED = 0x55;
export const INTERFACE_GOOD = 0x00;
/** "Clock line stuck low": what a controller without an auxiliary port says of it. */
export const INTERFACE_STUCK = 0x01;
/** What a device that is not there "answers", with the time-out bit of the status. */
export const RESEND = 0xfe;

/** "System Control Port A" */
export const SYSTEM_CONTROL = { fastReset: 0x01, a20: 0x02 } as const;

export const RAM_SIZE = 32;

export const I8042_STATE = record({
  ram: base64(RAM_SIZE),
  output: u8,
  buffer: optional(u8),
  timeout: flag,
  /** The command whose data byte the next write to port 0x60 is. */
  pending: optional(u8),
  lastWasCommand: flag,
  systemFlag: flag,
});
export type I8042State = StateOf<typeof I8042_STATE>;
