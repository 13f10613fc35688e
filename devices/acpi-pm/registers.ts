// ACPI Specification 6.5, "PM1 Event Registers" and "PM1 Control Registers". Where they lie is the
// original's machine (0x400, 0x404, SCI 9, SMI command 0xB2 with 0xA0 and 0xA1).
import { defineBlock } from "../registers.js";
import { record, type StateOf, u8, u16 } from "../state.js";

export const PM1_BASE = 0x400;
export const PM1_LENGTH = 6;
export const SMI_COMMAND_PORT = 0xb2;
export const SMI_COMMAND_LENGTH = 2;
export const SCI_IRQ = 9;

/** Values for the FADT's ACPI_ENABLE and ACPI_DISABLE. */
export const ACPI_ENABLE = 0xa0;
export const ACPI_DISABLE = 0xa1;

/** "PM1 Status Registers Fixed Hardware Feature Status Bits" */
export const PM1_STATUS = {
  busMaster: 0x0010,
  global: 0x0020,
  powerButton: 0x0100,
  sleepButton: 0x0200,
  rtc: 0x0400,
  wake: 0x8000,
} as const;

/** "PM1 Control Registers Fixed Hardware Feature Control Bits" */
export const PM1_CONTROL = {
  sciEnable: 0x0001,
  busMasterReload: 0x0002,
  globalRelease: 0x0004,
  sleepType: 0x1c00,
  sleepEnable: 0x2000,
} as const;

/** SLP_TYP of the \_S5 package in our DSDT. */
export const SLEEP_TYPE_S5 = 5;
export const sleepType = (control: number): number => (control & PM1_CONTROL.sleepType) >> 10;

const cite = (title: string): string => `ACPI 6.5, "${title}"`;

// RTC_EN can be set, since Linux insists, though no alarm ever sets RTC_STS.
// SLP_EN and GBL_RLS are write-only and read as zero; SCI_EN belongs to the SMI command port.
export const PM1 = defineBlock("ACPI PM1", PM1_LENGTH, {
  status: { at: 0, width: 2, access: "w1c", writable: 0x8730, cite: cite("PM1 Status Registers") },
  enable: { at: 2, width: 2, access: "rw", writable: 0x0520, cite: cite("PM1 Enable Registers") },
  control: { at: 4, width: 2, access: "rw", writable: 0x3c02, cite: cite("PM1 Control Registers") },
});

export const ACPI_PM_STATE = record({
  status: u16,
  enable: u16,
  control: u16,
  smi: u8,
  smiData: u8,
});
export type AcpiPmState = StateOf<typeof ACPI_PM_STATE>;
