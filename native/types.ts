// What TypeScript sees of the native core: types only. Devices import this file and nothing else
// of native/; vmm/ gets the implementation from native/index.ts and hands parts of it to devices.

/** Guest-physical address or guest-time nanoseconds where 53 bits do; bigint where 64 matter. */
export type Gpa = number;
export type Space = "pio" | "mmio";

/**
 * How a vCPU meets a register (design.md, "Exits"). A read is `direct` (waits for the handler),
 * `shadow` (the published bytes; direct while any vCPU's posted write to the range is pending) or
 * `stable` (the published bytes always: no posted write of this device changes them). A write is
 * `direct`, `posted` (ordered, not waited for), `doorbell` (posted, coalesced: the handler's
 * doorbell() runs once for any number of rings of one offset and value) or `ignored`.
 */
export type ReadWay = "direct" | "shadow" | "stable";
export type WriteWay = "direct" | "posted" | "doorbell" | "ignored";

export interface RegisterWays {
  /** Byte offset in the range, and how many bytes these ways are for. */
  readonly at: number;
  readonly length: number;
  readonly read?: ReadWay;
  readonly write?: WriteWay;
  /**
   * A posted write-1-to-clear status register: native clears these bits of the published bytes
   * and lowers `line` when none of `mask` is left, before the vCPU goes on; the handler still
   * gets the write. The device publishes these bits with Atomics.or and never takes them back
   * itself: behind with a posted clear, it would bring back what is gone.
   */
  readonly clears?: { readonly mask: number; readonly line: InterruptLine };
}

export interface RangeSpec {
  /** For statistics, errors and inspection: "com1", "pci-config". */
  readonly name: string;
  readonly space: Space;
  readonly base: Gpa;
  readonly length: number;
  /** What no entry names is direct both ways. Entries may not overlap. */
  readonly ways?: readonly RegisterWays[];
}

/**
 * Called on the JavaScript thread that serves the bus. `size` is 1, 2 or 4; an 8-byte access
 * arrives as two of 4, low half first. Values are unsigned. A handler never throws for anything a
 * guest can do; what it does not implement reads as all ones of the width.
 */
export interface RangeHandler {
  read(offset: number, size: number): number;
  write(offset: number, size: number, value: number): void;
  doorbell?(offset: number, value: number): void;
}

export interface Range {
  readonly spec: RangeSpec;
  /** The published bytes, `length` of them, shared with the vCPU threads. */
  readonly shadow: DataView;
  /** In force for all vCPUs before the vCPU whose direct write caused it goes on. */
  move(base: Gpa): void;
  enable(on: boolean): void;
  remove(): void;
}

/** Ranges of one space never overlap: map(), move() and enable() throw RangeError where they would. */
export interface Bus {
  map(spec: RangeSpec, handler: RangeHandler): Range;
}

/** One source on a wire; the wire is high while any of its sources is. */
export interface InterruptLine {
  set(level: boolean): void;
  /** Up and down again: one edge. */
  pulse(): void;
}

export interface Interrupts {
  /** ISA IRQ 0 to 15: the 8259 pair's input and the IO-APIC pin it is wired to (IRQ 0: pin 2). */
  isa(irq: number): InterruptLine;
  /** One 8259 input alone (a PIRQ router's output); the line's level is high-active. */
  pic(irq: number): InterruptLine;
  /** One IO-APIC pin alone, 0 to 23. */
  ioapic(pin: number): InterruptLine;
  /**
   * The 8259's edge/level register (ELCR) bit of this IRQ, as firmware sets it before boot. IRQs
   * that are edge-triggered always (0, 1, 2, 8, 13) stay so.
   */
  trigger(irq: number, level: boolean): void;
  /** A message-signalled interrupt, as a write of `data` to 0xFEExxxxx. */
  msi(address: number, data: number): void;
}

export interface Timer {
  /** One shot at this guest time in nanoseconds; replaces an earlier deadline. */
  arm(at: bigint): void;
  cancel(): void;
}

export interface Clock {
  /** Guest time: stands still while the VM is paused, never goes back. */
  now(): bigint;
  /** The callback runs on the JavaScript thread, at or soon after the deadline. */
  timer(callback: () => void): Timer;
}

/** Guest RAM without a copy. Every write through a view must be followed by written(). */
export interface GuestMemory {
  readonly size: number;
  /** Bytes of RAM below 3 GiB; the rest begins at 4 GiB. */
  readonly lowSize: number;
  /**
   * A view of guest RAM; undefined where [at, at + length) is not all RAM, or crosses from one
   * window of 1 GiB into the next (use read and write there).
   */
  view(at: Gpa, length: number): Uint8Array | undefined;
  /** Copies out of or into the guest; false, and nothing copied, where it is not all RAM. */
  read(at: Gpa, into: Uint8Array): boolean;
  /** Ends with written() itself. */
  write(at: Gpa, bytes: Uint8Array): boolean;
  /** Drops decoded code on these pages and feeds the dirty log. */
  written(at: Gpa, length: number): void;
}

/**
 * read and write move bytes between the file and guest RAM; a read past the end of the file gives
 * zeros. sync: what was completed before is on the medium. discard: a hint. zero: reads as zeros
 * and keeps its room on the disk; unmap: reads as zeros and may lose it.
 */
export type FileOperation = "read" | "write" | "sync" | "discard" | "zero" | "unmap";

/** A file behind a device. Requests end in any order. */
export interface HostFile {
  /**
   * `pieces`: address, length, address, length … of guest RAM, `length` bytes in all. `done` gets 0 or
   * an errno, later and on the JavaScript thread; several that end together come in one turn.
   */
  submit(
    operation: FileOperation,
    offset: number,
    length: number,
    pieces: readonly number[],
    done: (errno: number) => void,
  ): void;
  /** Nothing submitted touches guest RAM afterwards, and no `done` is called. May wait briefly. */
  cancel(): void;
  /** Cancels, then closes the descriptor. */
  close(): void;
}

export interface HostIo {
  /** Takes the descriptor over. */
  file(fd: number): HostFile;
}

/** What a device is given to live on. */
export interface DeviceHost {
  readonly bus: Bus;
  readonly interrupts: Interrupts;
  readonly clock: Clock;
  readonly memory: GuestMemory;
}

/** Saved state: plain JSON with a version, one entry a component. */
export interface SavedComponent {
  readonly version: number;
  readonly state: unknown;
}

export interface MachineOptions {
  readonly cpus: number;
  /** Bytes, a multiple of 4096. */
  readonly memory: number;
  readonly accelerator: "auto" | "soft" | "kvm" | "hvf";
  /** vCPUs start with their local APIC in x2APIC mode. */
  readonly x2apic?: boolean;
  /** An access that nothing decodes ends the VM (bhyve's -e). */
  readonly strictIo?: boolean;
  /** An unknown MSR reads 0 and swallows writes (bhyve's -w) instead of #GP(0). */
  readonly ignoreUnknownMsrs?: boolean;
  /** The RTC keeps UTC; else local time. */
  readonly rtcUtc?: boolean;
}

export type MachineEvent =
  | { readonly kind: "halted" } // every vCPU halted with interrupts off
  | { readonly kind: "triple-fault"; readonly vcpu: number }
  | { readonly kind: "unhandled-io"; readonly access: string }; // strictIo

export interface AcceleratorInfo {
  readonly name: string;
  readonly usable: boolean;
  /** Why it is not usable, or why `auto` would or would not take it. */
  readonly reason: string;
}

export interface MachineStatistics {
  readonly vcpus: readonly Readonly<Record<string, number>>[];
  /** Exits by way and range, wake-ups of JavaScript, posted entries … */
  readonly bus: Readonly<Record<string, number>>;
}

/**
 * The native half of one VM. Made stopped at power-on reset. start() lets the vCPU threads run;
 * pause() resolves when every vCPU is at an instruction boundary and every posted write has been
 * served; state may be read and set only while paused or not started.
 */
export interface Machine extends DeviceHost {
  readonly io: HostIo;
  readonly accelerator: AcceleratorInfo;
  start(): void;
  pause(): Promise<void>;
  resume(): void;
  /** All native components and vCPUs back to power-on; only while paused. */
  reset(): void;
  /** Ends the vCPU threads; nothing runs afterwards. */
  destroy(): Promise<void>;
  /** Non-maskable interrupt to the BSP. */
  nmi(): void;
  /** The A20 gate: open (as after reset) or closed, when address bit 20 reads as 0. */
  setA20(open: boolean): void;
  /** CpuState's fields (native/core/accel/cpu_state.h) by their names; integers or "0x…" strings. */
  vcpu(index: number): SavedComponent;
  setVcpu(index: number, saved: SavedComponent): void;
  /** Components by name: "cpu0", "lapic0", "ioapic", "pic", "pit", "hpet", "pmtimer", "rtc", "clock" … */
  save(): Record<string, SavedComponent>;
  /** Throws an Error naming component and field; nothing has changed then. */
  restore(components: Readonly<Record<string, SavedComponent>>): void;
  statistics(): MachineStatistics;
  onEvent(listener: (event: MachineEvent) => void): void;
}
