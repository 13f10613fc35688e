// Serial ATA AHCI 1.3.1, "HBA Memory Registers": the global registers, the block of each port, and
// the meaning of their bits.
import { defineBlock } from "../registers.js";

const cite = (title: string): string => `AHCI 1.3.1, "${title}"`;

export const PORTS_BASE = 0x100;
export const PORT_SIZE = 0x80;
export const MAX_PORTS = 32;
export const SLOTS = 32;

/**
 * "HBA Capabilities". Left out on purpose: staggered spin-up, port multipliers, enclosures, command
 * completion coalescing, activity LEDs and presence switches, since there are none.
 */
export const CAP = {
  /** S64A: 64-bit addresses. */
  addresses64: 0x8000_0000,
  /** SNCQ: native command queueing. */
  queueing: 0x4000_0000,
  /** SSNTF: the SNotification register. */
  notification: 0x2000_0000,
  /** SCLO: command list override. */
  listOverride: 0x0100_0000,
  /** ISS: 3 is 6 Gb/s. */
  speed: 0x0030_0000,
  /** SAM: AHCI mode only. */
  ahciOnly: 0x0004_0000,
  /** PMD: PIO of several DRQ blocks; SSC and PSC: the slumber and partial states. */
  pioBlocks: 0x0000_8000,
  slumber: 0x0000_4000,
  partial: 0x0000_2000,
  /** NCS: command slots less one. */
  slots: (SLOTS - 1) << 8,
} as const;

/** "Global HBA Control" */
export const GHC = { reset: 0x1, interrupts: 0x2, ahci: 0x8000_0000 } as const;
const VERSION = 0x0001_0301;
/** "HBA Capabilities Extended": APST, automatic partial to slumber. */
const CAP2 = 0x4;

export const HBA = defineBlock("AHCI", PORTS_BASE, {
  cap: { at: 0x00, width: 4, access: "ro", cite: cite("HBA Capabilities") },
  ghc: {
    at: 0x04,
    width: 4,
    access: "rw",
    reset: GHC.ahci,
    writable: GHC.reset | GHC.interrupts,
    cite: cite("Global HBA Control"),
  },
  is: { at: 0x08, width: 4, access: "w1c", cite: cite("Interrupt Status Register") },
  pi: { at: 0x0c, width: 4, access: "ro", cite: cite("Ports Implemented") },
  vs: { at: 0x10, width: 4, access: "ro", reset: VERSION, cite: cite("AHCI Version") },
  cap2: { at: 0x24, width: 4, access: "ro", reset: CAP2, cite: cite("HBA Capabilities Extended") },
});
export type HbaRegister = keyof typeof HBA;

/** "Port x Interrupt Status" */
export const IS = {
  d2h: 0x0000_0001,
  pioSetup: 0x0000_0002,
  dmaSetup: 0x0000_0004,
  setDeviceBits: 0x0000_0008,
  unknownFrame: 0x0000_0010,
  descriptor: 0x0000_0020,
  connect: 0x0000_0040,
  phyReady: 0x0040_0000,
  overflow: 0x0100_0000,
  interfaceFatal: 0x0800_0000,
  busFatal: 0x2000_0000,
  taskFile: 0x4000_0000,
} as const;

/** "Port x Command and Status" */
export const CMD = {
  start: 0x0000_0001,
  spinUp: 0x0000_0002,
  powerOn: 0x0000_0004,
  listOverride: 0x0000_0008,
  receive: 0x0000_0010,
  currentSlot: 0x0000_1f00,
  receiving: 0x0000_4000,
  running: 0x0000_8000,
  powerStates: 0xf000_0000,
} as const;
const CMD_WRITABLE = 0xff80_0000 | CMD.start | CMD.listOverride | CMD.receive;

/** "Port x Serial ATA Status": a device, at 6 Gb/s, active. */
export const SSTS = { none: 0x000, active: 0x133, offline: 0x004 } as const;
/** "Port x Serial ATA Control", DET */
export const DET = { mask: 0xf, none: 0, reset: 1, offline: 4 } as const;

/** "Port x Serial ATA Error" */
export const SERR = {
  protocol: 0x0000_0400,
  phyReady: 0x0001_0000,
  handshake: 0x0040_0000,
  unknownFrame: 0x0200_0000,
  exchanged: 0x0400_0000,
} as const;

export const NO_DEVICE_STATUS = 0x7f;
export const NO_SIGNATURE = 0xffff_ffff;

export const PORT = defineBlock("AHCI port", PORT_SIZE, {
  clb: {
    at: 0x00,
    width: 4,
    access: "rw",
    writable: 0xffff_fc00,
    cite: cite("Port x Command List Base Address"),
  },
  clbu: {
    at: 0x04,
    width: 4,
    access: "rw",
    cite: cite("Port x Command List Base Address Upper 32-bits"),
  },
  fb: {
    at: 0x08,
    width: 4,
    access: "rw",
    writable: 0xffff_ff00,
    cite: cite("Port x FIS Base Address"),
  },
  fbu: { at: 0x0c, width: 4, access: "rw", cite: cite("Port x FIS Base Address Upper 32-bits") },
  is: {
    at: 0x10,
    width: 4,
    access: "w1c",
    writable: 0xfd80_00af,
    cite: cite("Port x Interrupt Status"),
  },
  ie: {
    at: 0x14,
    width: 4,
    access: "rw",
    writable: 0xfdc0_00ff,
    cite: cite("Port x Interrupt Enable"),
  },
  cmd: {
    at: 0x18,
    width: 4,
    access: "rw",
    reset: CMD.spinUp | CMD.powerOn,
    writable: CMD_WRITABLE,
    cite: cite("Port x Command and Status"),
  },
  tfd: {
    at: 0x20,
    width: 4,
    access: "ro",
    reset: NO_DEVICE_STATUS,
    cite: cite("Port x Task File Data"),
  },
  sig: { at: 0x24, width: 4, access: "ro", reset: NO_SIGNATURE, cite: cite("Port x Signature") },
  ssts: {
    at: 0x28,
    width: 4,
    access: "ro",
    cite: cite("Port x Serial ATA Status (SCR0: SStatus)"),
  },
  sctl: {
    at: 0x2c,
    width: 4,
    access: "rw",
    writable: 0x0000_0fff,
    cite: cite("Port x Serial ATA Control (SCR2: SControl)"),
  },
  serr: {
    at: 0x30,
    width: 4,
    access: "w1c",
    writable: 0x07ff_0f03,
    cite: cite("Port x Serial ATA Error (SCR1: SError)"),
  },
  // Write-1-to-set, by Port.issue() and Port.activate().
  sact: {
    at: 0x34,
    width: 4,
    access: "ro",
    cite: cite("Port x Serial ATA Active (SCR3: SActive)"),
  },
  ci: { at: 0x38, width: 4, access: "ro", cite: cite("Port x Command Issue") },
  sntf: {
    at: 0x3c,
    width: 4,
    access: "w1c",
    writable: 0x0000_ffff,
    cite: cite("Port x Serial ATA Notification (SCR4: SNotification)"),
  },
});
export type PortRegister = keyof typeof PORT;

/** What an HBA reset leaves alone ("HBA Reset"). */
export const KEPT_AT_RESET: readonly PortRegister[] = ["clb", "clbu", "fb", "fbu"];
