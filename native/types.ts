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
 *
 * Nobody waits either for a `latch`, a dword that only holds what was last written to the whole of it:
 * native keeps it in the published bytes, where the device finds it; a part of it is direct. For
 * `ones`: nothing is there. And mostly for `configuration`, the data port of PCI's configuration
 * mechanism #1, just after its latch: an aligned read has the answer of the register in ECAM that
 * the latch selects, and is direct where that one is.
 */
export type ReadWay = "direct" | "shadow" | "stable" | "latch" | "configuration" | "ones";
export type WriteWay = "direct" | "posted" | "doorbell" | "ignored" | "latch";

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
  /**
   * Of a doorbell whose value says nothing: the handler's doorbell() is given `at` and this number
   * whatever was written. On kvm the guest's write to `at` is then taken by the host's kernel, and
   * its vCPU does not wait: what it posted before is served before the doorbell all the same, but a
   * direct access that it makes after may be.
   */
  readonly rings?: number;
  /** Of a latch: the bits that it holds. */
  readonly mask?: number;
  /** Of `configuration`: where ECAM begins. */
  readonly ecam?: Gpa;
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
 * zeros. clear: the pieces become zeros, the file has no part in it. sync: what was completed before is on the medium. discard: a hint. zero: reads as zeros
 * and keeps its room on the disk; unmap: reads as zeros and may lose it.
 */
export type FileOperation = "read" | "write" | "sync" | "discard" | "zero" | "unmap" | "clear";

/** A file behind a device. Requests end in any order. */
export interface HostFile {
  /**
   * `pieces`: address, length, address, length … of guest RAM or buffers, `length` bytes in all. `done` gets 0 or
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
  /** The same open file once more, to be cancelled and closed by itself. */
  twin(): HostFile;
  /** Cancels, then closes the descriptor. */
  close(): void;
}

/** Memory of the host that pieces of a request can name as they name guest RAM; zeros at first. */
export interface HostBuffer {
  readonly bytes: Uint8Array;
  /** The address of its first byte: above all guest RAM, and BUFFERS_FROM or more. */
  readonly at: number;
  /** Requests under way keep it. */
  free(): void;
}

/** hv::io::kBufferBase. */
export const BUFFERS_FROM = 2 ** 52;

export interface HostIo {
  /**
   * Takes the descriptor over. `alignment`: of memory that it can move to and from, where it is
   * open past the host's page cache; what is not aligned goes over a copy.
   */
  file(fd: number, alignment?: number): HostFile;
  buffer(size: number): HostBuffer;
}

/**
 * Work on a frame that its sender may leave to the receiver, as bits: the checksum 1, cutting up large
 * TCP segments over IPv4 2 and over IPv6 4, with ECN 8, fragmenting UDP 16.
 */
export type NetOffloads = number;

/** What a network card's driver and device have agreed on. */
export interface NetAgreement {
  /** Bytes before each frame: 12, or 10 for the legacy interface without mergeable buffers. */
  readonly header: 10 | 12;
  /** A frame may take several buffers. */
  readonly mergeable: boolean;
  /** The guest leaves work to us in what it sends. */
  readonly checksums: boolean;
  /** And takes this of what it receives. */
  readonly accepts: NetOffloads;
}

/** VIRTIO 1.2, "Control Virtqueue". */
export interface NetFilter {
  /** Bits: promiscuous 1, all multicast 2, all unicast 4, none of multicast 8, unicast 16, broadcast 32. */
  readonly mode: number;
  readonly mac: Uint8Array;
  /** Six bytes each. */
  readonly addresses: Uint8Array;
  /** A bit for each of 4096 identifiers; no bytes: all pass. */
  readonly vlans: Uint8Array;
}

/**
 * Why frames stopped: `limit` of one call, or (sending) some wait for the descriptor to be writable;
 * `empty` until it is readable, or all were sent; `starved` for buffers; `down`: fault() says why.
 */
export type NetStop = "limit" | "empty" | "starved" | "down";

/** Frames per call at most. */
export type NetFrames = { readonly count: number; readonly stop: NetStop };

/** A capture between two ports. Nothing but a port can read it. */
export type RunningCapture = object;

export interface NetCapture {
  /** Taken over; a new file. */
  readonly fd: number;
  /** Of the interface in it. */
  readonly name: string;
  /** Bytes of the file, and of each frame, at most. */
  readonly limit: number;
  readonly snap: number;
}

/** A network cable plugged in on the host: frames go straight to and from guest RAM, nothing waits. */
export interface NetPort {
  readonly offloads: NetOffloads;
  /** Called on the JavaScript thread for what watch() asks for. */
  listen(ready: (readable: boolean, writable: boolean) => void): void;
  watch(readable: boolean, writable: boolean): void;
  agree(agreement: NetAgreement): void;
  filter(filter: NetFilter): void;
  /** Buffers for frames: address, length, address, length … each. How many are good, from the first. */
  post(chains: readonly (readonly number[])[]): number;
  /** Posted buffers are forgotten: nothing touches guest RAM afterwards. */
  clear(): void;
  /**
   * `into`: of each frame the posted buffers that it took, oldest first, and its bytes with the
   * header. `wholeRing`: the driver has no more buffers to give; a frame too large for them is lost.
   */
  receive(into: Uint32Array, wholeRing: boolean): NetFrames;
  /** Headers with their frames; `count` of them are gone, one way or the other. */
  send(chains: readonly (readonly number[])[]): NetFrames;
  /** True while something sent waits for the descriptor to be writable. */
  flush(): boolean;
  /** Why it is down. */
  fault(): string;
  /** Throws nothing: what goes wrong with the file later shows in statistics. */
  capture(capture: NetCapture | undefined): void;
  /** The one that is under way, to go on at another port; undefined: none is. */
  takeCapture(): RunningCapture | undefined;
  /** Once: what another port gave. */
  continueCapture(running: RunningCapture): void;
  statistics(): NetStatistics;
  close(): void;
}

export interface NetStatistics {
  readonly sent: number;
  readonly sentBytes: number;
  readonly sendDropped: number;
  readonly received: number;
  readonly receivedBytes: number;
  readonly receiveDropped: number;
  readonly filtered: number;
  readonly capturedFrames?: number;
  readonly capturedBytes?: number;
  /** Why the capture ended before its time; empty while it goes on. */
  readonly captureEnded?: string;
}

export type VmnetMode = "shared" | "host" | "bridged";

/** Each throws an Error like Node's own (code, errno) where the host does not allow it. */
export interface HostNet {
  /**
   * Linux: made where there is no such interface, for as long as it is open; no name: the host
   * chooses one. macOS: /dev/NAME. EBUSY: another program has it.
   */
  tap(name: string, bridge?: string): { readonly port: NetPort; readonly name: string };
  /** Frames after their lengths in 4 big-endian bytes, over the Unix socket at this path. */
  stream(path: string): NetPort;
  /** The same, to a child process that is given `fd`, which is the caller's to close. */
  pair(): { readonly port: NetPort; readonly fd: number };
  /** A switch without a server, in a folder of the user's own; EADDRINUSE: the MAC is on it. */
  switch(folder: string, mac: Uint8Array): NetPort;
  /** macOS only. The same interface id gets the same MAC address. */
  vmnet(
    mode: VmnetMode,
    interfaceId: string,
    bridgeTo?: string,
  ): { readonly port: NetPort; readonly mac: string };
}

/** Where a serial chip lies: eight ports from `port` on, answered natively, and its interrupt. */
export interface SerialWiring {
  /** For statistics and errors: "com1". */
  readonly name: string;
  readonly port: number;
  readonly line: InterruptLine;
}

/**
 * A 16550A of the core with the host at the other end of its cable. Its registers are met as a
 * guest would by read() and write(), offsets 0 to 7, where it has no wiring.
 */
export interface SerialChip {
  read(offset: number): number;
  write(offset: number, value: number): void;
  /** The level of the interrupt pin. */
  readonly interrupting: boolean;
  /**
   * What the guest has sent. Nothing: the next byte calls for attention; until then it is the
   * caller's to look again.
   */
  take(): Uint8Array;
  /** What the receiver has no room for waits, up to 64 KiB. False: attention when more is welcome. */
  receive(bytes: Uint8Array): boolean;
  receiveBreak(): void;
  /** While held the transmitter is not empty, so that the guest holds its output back. */
  hold(on: boolean): void;
  reset(): void;
  save(): SavedComponent;
  /** Empty, or what is wrong; nothing has changed then. */
  restore(saved: unknown): string;
  /** Its ports are nobody's from now on. */
  unplug(): void;
}

export interface SerialChips {
  /**
   * `attention`: on the JavaScript thread, when take() has something, more input is welcome, or a
   * chip without wiring may have changed its pin by itself.
   */
  uart(attention: () => void, wiring?: SerialWiring): SerialChip;
}

/** What a device is given to live on. */
export interface DeviceHost {
  readonly bus: Bus;
  readonly interrupts: Interrupts;
  readonly clock: Clock;
  readonly memory: GuestMemory;
  readonly serial: SerialChips;
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
  /** `soft:interpreter` and `soft:eager` are the software CPU with one of its engines alone, for tests. */
  readonly accelerator: "auto" | "soft" | "kvm" | "hvf" | "soft:interpreter" | "soft:eager";
  /** `host`: the guest sees this host's CPU (kvm alone has it); else the same one everywhere. */
  readonly cpuModel?: "stable" | "host";
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
  readonly net: HostNet;
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
