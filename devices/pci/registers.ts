// PCI Local Bus Specification 3.0, "Configuration Space Organization" and "MSI Capability
// Structure"; PCI Express Base Specification 3.0, "PCI Express Capability Structure".
import { type Block, defineBlock } from "../registers.js";

/** "Command Register" */
export const COMMAND = {
  io: 0x0001,
  memory: 0x0002,
  busMaster: 0x0004,
  parityResponse: 0x0040,
  serr: 0x0100,
  intxDisable: 0x0400,
} as const;

/** "Status Register" */
export const STATUS = { interrupt: 0x0008, capabilities: 0x0010 } as const;

export const HEADER_MULTIFUNCTION = 0x80;
export const CONVENTIONAL_SIZE = 0x100;
export const EXTENDED_SIZE = 0x1000;
export const FIRST_CAPABILITY = 0x40;
export const BAR_COUNT = 6;

const cite = (title: string): string => `PCI 3.0, "${title}"`;

// Decoding and bus mastering are on from the start, as firmware would leave them (the original
// does the same: there is no firmware to do it).
export const HEADER = defineBlock("PCI type 0 header", 0x40, {
  vendor: { at: 0x00, width: 2, access: "ro", cite: cite("Vendor ID") },
  device: { at: 0x02, width: 2, access: "ro", cite: cite("Device ID") },
  command: {
    at: 0x04,
    width: 2,
    access: "rw",
    reset: 0x0007,
    writable: 0x0547,
    cite: cite("Command Register"),
  },
  status: { at: 0x06, width: 2, access: "w1c", writable: 0xf900, cite: cite("Status Register") },
  revision: { at: 0x08, width: 1, access: "ro", cite: cite("Revision ID") },
  progIf: { at: 0x09, width: 1, access: "ro", cite: cite("Class Code") },
  subclass: { at: 0x0a, width: 1, access: "ro", cite: cite("Class Code") },
  classCode: { at: 0x0b, width: 1, access: "ro", cite: cite("Class Code") },
  cacheLine: { at: 0x0c, width: 1, access: "rw", cite: cite("Cacheline Size") },
  latencyTimer: { at: 0x0d, width: 1, access: "rw", cite: cite("Latency Timer") },
  headerType: { at: 0x0e, width: 1, access: "ro", cite: cite("Header Type") },
  bist: { at: 0x0f, width: 1, access: "ro", cite: cite("Built-in Self Test (BIST)") },
  bar0: { at: 0x10, width: 4, access: "ro", cite: cite("Base Addresses") },
  bar1: { at: 0x14, width: 4, access: "ro", cite: cite("Base Addresses") },
  bar2: { at: 0x18, width: 4, access: "ro", cite: cite("Base Addresses") },
  bar3: { at: 0x1c, width: 4, access: "ro", cite: cite("Base Addresses") },
  bar4: { at: 0x20, width: 4, access: "ro", cite: cite("Base Addresses") },
  bar5: { at: 0x24, width: 4, access: "ro", cite: cite("Base Addresses") },
  subsystemVendor: { at: 0x2c, width: 2, access: "ro", cite: cite("Subsystem Vendor ID") },
  subsystem: { at: 0x2e, width: 2, access: "ro", cite: cite("Subsystem ID") },
  rom: { at: 0x30, width: 4, access: "ro", cite: cite("Expansion ROM Base Address Register") },
  capabilities: { at: 0x34, width: 1, access: "ro", cite: cite("Capabilities Pointer") },
  interruptLine: { at: 0x3c, width: 1, access: "rw", reset: 0xff, cite: cite("Interrupt Line") },
  interruptPin: { at: 0x3d, width: 1, access: "ro", cite: cite("Interrupt Pin") },
});
export type HeaderRegister = keyof typeof HEADER;

export const barOffset = (index: number): number => 0x10 + 4 * index;

/** A capability's registers, from the byte after its two-byte header on. */
export interface Capability {
  readonly id: number;
  readonly length: number;
  readonly registers: Block<string>;
}

export const MSI_CONTROL = { enable: 0x0001, enabledMessages: 0x0070, wide: 0x0080 } as const;
export const MSI_OFFSET = { control: 2, address: 4, upper: 8, data: 0xc } as const;

/** 64-bit addresses, no per-vector masks; `messages` is a power of two up to 32. */
export const msiCapability = (messages: number): Capability => ({
  id: 0x05,
  length: 14,
  registers: defineBlock("MSI", 0x10, {
    control: {
      at: MSI_OFFSET.control,
      width: 2,
      access: "rw",
      reset: MSI_CONTROL.wide | (Math.log2(messages) << 1),
      writable: MSI_CONTROL.enable | MSI_CONTROL.enabledMessages,
      cite: cite("Message Control for MSI"),
    },
    address: {
      at: 4,
      width: 4,
      access: "rw",
      writable: 0xfffffffc,
      cite: cite("Message Address for MSI"),
    },
    upper: {
      at: 8,
      width: 4,
      access: "rw",
      cite: cite("Message Upper Address for MSI (Optional)"),
    },
    data: { at: 0xc, width: 2, access: "rw", cite: cite("Message Data for MSI") },
  }),
});

export const MSIX_CONTROL = { functionMask: 0x4000, enable: 0x8000 } as const;
export const MSIX_CONTROL_OFFSET = 2;
/** "MSI-X Table": address, upper address, data, vector control. */
export const MSIX_ENTRY = {
  size: 16,
  address: 0,
  upper: 1,
  data: 2,
  control: 3,
  masked: 1,
} as const;

export const msixCapability = (vectors: number, bar: number, pendingAt: number): Capability => ({
  id: 0x11,
  length: 12,
  registers: defineBlock("MSI-X", 12, {
    control: {
      at: MSIX_CONTROL_OFFSET,
      width: 2,
      access: "rw",
      reset: vectors - 1,
      writable: MSIX_CONTROL.functionMask | MSIX_CONTROL.enable,
      cite: cite("Message Control for MSI-X"),
    },
    table: {
      at: 4,
      width: 4,
      access: "ro",
      reset: bar,
      cite: cite("Table Offset/Table BIR for MSI-X"),
    },
    pending: {
      at: 8,
      width: 4,
      access: "ro",
      reset: pendingAt | bar,
      cite: cite("PBA Offset/PBA BIR for MSI-X"),
    },
  }),
});

const express = (title: string): string => `PCI Express 3.0, "${title}"`;

/**
 * A root port as the original's host bridge has it: link x1 at 2.5 GT/s, up. No slot, no AER and
 * no other extended capability, so that no port service of a guest wakes for it.
 */
export const rootPortCapability = (): Capability => ({
  id: 0x10,
  length: 60,
  registers: defineBlock("PCI Express", 0x3c, {
    capabilities: {
      at: 0x02,
      width: 2,
      access: "ro",
      reset: 0x0042,
      cite: express("PCI Express Capabilities Register"),
    },
    deviceCapabilities: {
      at: 0x04,
      width: 4,
      access: "ro",
      reset: 0x00008000,
      cite: express("Device Capabilities Register"),
    },
    deviceControl: {
      at: 0x08,
      width: 2,
      access: "rw",
      writable: 0x70ff,
      cite: express("Device Control Register"),
    },
    deviceStatus: { at: 0x0a, width: 2, access: "ro", cite: express("Device Status Register") },
    linkCapabilities: {
      at: 0x0c,
      width: 4,
      access: "ro",
      reset: 0x00000411,
      cite: express("Link Capabilities Register"),
    },
    linkControl: {
      at: 0x10,
      width: 2,
      access: "rw",
      writable: 0x00c0,
      cite: express("Link Control Register"),
    },
    linkStatus: {
      at: 0x12,
      width: 2,
      access: "ro",
      reset: 0x0011,
      cite: express("Link Status Register"),
    },
    rootControl: {
      at: 0x1c,
      width: 2,
      access: "rw",
      writable: 0x000f,
      cite: express("Root Control Register"),
    },
    rootStatus: { at: 0x20, width: 4, access: "ro", cite: express("Root Status Register") },
  }),
});
