// Intel ICH9 data sheet, "RST_CNT: Reset Control Register".
import { record, u8 } from "../state.js";

/** The byte inside mechanism #1's address port, which is a dword: the PCI bus hands it on. */
export const RESET_PORT = 0xcf9;

export const RESET_CONTROL = { systemReset: 0x02, resetCpu: 0x04, fullReset: 0x08 } as const;
export const WRITABLE = 0x0e;

export const RESET_STATE = record({ control: u8 });
