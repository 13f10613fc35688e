// A DeviceHost for tests: a bus that a test drives as a guest would, lines that remember, a clock
// that a test winds, memory in an array. It keeps the rules of design.md, "Exits": posted writes
// wait in order, a shadow read is direct while one of its range waits, ranges never overlap.
import {
  BUFFERS_FROM,
  type Bus,
  type Clock,
  type DeviceHost,
  type FileOperation,
  type GuestMemory,
  type HostBuffer,
  type HostFile,
  type HostIo,
  type InterruptLine,
  type Interrupts,
  type Range,
  type RangeHandler,
  type RangeSpec,
  type RegisterWays,
  type SavedComponent,
  type SerialChip,
  type SerialChips,
  type SerialWiring,
  type Space,
  type Timer,
} from "../native/types.js";
import { allOnes } from "./bits.js";

class FakeRange implements Range {
  spec: RangeSpec;
  readonly handler: RangeHandler;
  readonly #bus: FakeBus;
  #shadow: DataView | undefined;
  enabled = true;

  constructor(bus: FakeBus, spec: RangeSpec, handler: RangeHandler) {
    this.#bus = bus;
    this.spec = spec;
    this.handler = handler;
  }
  get shadow(): DataView {
    this.#shadow ??= new DataView(new ArrayBuffer(this.spec.length));
    return this.#shadow;
  }
  move(base: number): void {
    const spec = { ...this.spec, base };
    if (this.enabled) this.#bus.refuseOverlap(spec, this);
    this.spec = spec;
  }
  enable(on: boolean): void {
    if (on) this.#bus.refuseOverlap(this.spec, this);
    this.enabled = on;
  }
  remove(): void {
    this.#bus.ranges.delete(this);
  }
  contains(space: Space, at: number): boolean {
    const { base, length } = this.spec;
    return this.enabled && this.spec.space === space && at >= base && at < base + length;
  }
  /** An access that no single entry holds is direct. */
  ways(offset: number, size: number): RegisterWays | undefined {
    return this.spec.ways?.find((w) => offset >= w.at && offset + size <= w.at + w.length);
  }
}

interface Posted {
  readonly range: FakeRange;
  readonly offset: number;
  readonly size: number;
  readonly value: number;
  readonly doorbell: boolean;
}

export class FakeBus implements Bus {
  readonly ranges = new Set<FakeRange>();
  /** False: posted writes wait for serve() or a direct access, as they may on a real bus. */
  eager = true;
  /** Accesses that reached a handler and were waited for. */
  directs = 0;
  #posted: Posted[] = [];

  map(spec: RangeSpec, handler: RangeHandler): FakeRange {
    this.#checkWays(spec);
    const range = new FakeRange(this, spec, handler);
    this.refuseOverlap(spec, range);
    this.ranges.add(range);
    return range;
  }

  in(port: number, size = 1): number {
    return this.#read("pio", port, size);
  }
  out(port: number, value: number, size = 1): void {
    this.#write("pio", port, size, value);
  }
  load(at: number, size = 4): number {
    return this.#read("mmio", at, size);
  }
  store(at: number, value: number, size = 4): void {
    this.#write("mmio", at, size, value);
  }

  serve(): void {
    const posted = this.#posted;
    this.#posted = [];
    for (const { range, offset, size, value, doorbell } of posted) {
      if (doorbell && range.handler.doorbell) range.handler.doorbell(offset, value);
      else range.handler.write(offset, size, value);
    }
  }

  refuseOverlap(spec: RangeSpec, self: FakeRange): void {
    for (const other of this.ranges) {
      if (other === self || !other.enabled || other.spec.space !== spec.space) continue;
      const { base, length, name } = other.spec;
      if (spec.base < base + length && base < spec.base + spec.length)
        throw new RangeError(`${spec.name} overlaps ${name}`);
    }
  }

  #find(space: Space, at: number): FakeRange | undefined {
    for (const range of this.ranges) if (range.contains(space, at)) return range;
    return undefined;
  }

  #read(space: Space, at: number, size: number): number {
    const range = this.#find(space, at);
    if (range === undefined) return allOnes(size);
    const offset = at - range.spec.base;
    if (offset + size > range.spec.length) return allOnes(size);
    const way = range.ways(offset, size)?.read ?? "direct";
    const pending = this.#posted.some((entry) => entry.range === range);
    if (way === "stable" || (way === "shadow" && !pending))
      return shadowed(range.shadow, offset, size);
    this.serve();
    this.directs++;
    return range.handler.read(offset, size) >>> 0;
  }

  #write(space: Space, at: number, size: number, value: number): void {
    const range = this.#find(space, at);
    if (range === undefined) return;
    const offset = at - range.spec.base;
    if (offset + size > range.spec.length) return;
    const ways = range.ways(offset, size);
    const way = ways?.write ?? "direct";
    if (way === "ignored") return;
    const clipped = (value & allOnes(size)) >>> 0;
    if (way === "direct" || way === "latch") {
      this.serve();
      this.directs++;
      range.handler.write(offset, size, clipped);
      return;
    }
    if (ways?.clears) clearBits(range, offset, clipped, ways.clears);
    const entry = { range, offset, size, value: clipped, doorbell: way === "doorbell" };
    const rung = ways?.rings === undefined ? {} : { offset: ways.at, value: ways.rings };
    this.#posted.push({ ...entry, ...rung });
    if (this.eager) this.serve();
  }

  #checkWays(spec: RangeSpec): void {
    let end = 0;
    for (const { at, length } of [...(spec.ways ?? [])].sort((a, b) => a.at - b.at)) {
      if (at < end || length < 1 || at + length > spec.length)
        throw new RangeError(`${spec.name}: ways at ${at} overlap or leave the range`);
      end = at + length;
    }
  }
}

function shadowed(shadow: DataView, offset: number, size: number): number {
  let value = 0;
  for (let lane = 0; lane < size; lane++) value += shadow.getUint8(offset + lane) * 2 ** (8 * lane);
  return value;
}

function clearBits(
  range: FakeRange,
  offset: number,
  value: number,
  clears: NonNullable<RegisterWays["clears"]>,
): void {
  const left = range.shadow.getUint32(offset, true) & ~(value & clears.mask);
  range.shadow.setUint32(offset, left >>> 0, true);
  if ((left & clears.mask) === 0) clears.line.set(false);
}

/** A wire with any number of sources; `edges` counts its rises. */
export class FakeWire {
  edges = 0;
  readonly #high = new Set<object>();

  get level(): boolean {
    return this.#high.size > 0;
  }
  source(): InterruptLine {
    const source: InterruptLine = {
      set: (level) => this.#drive(source, level),
      pulse: () => {
        this.#drive(source, true);
        this.#drive(source, false);
      },
    };
    return source;
  }
  #drive(source: object, level: boolean): void {
    const before = this.level;
    if (level) this.#high.add(source);
    else this.#high.delete(source);
    if (this.level && !before) this.edges++;
  }
}

export class FakeInterrupts implements Interrupts {
  readonly messages: { address: number; data: number }[] = [];
  readonly levelTriggered = new Set<number>();
  readonly #wires = new Map<string, FakeWire>();

  wire(kind: "isa" | "pic" | "ioapic", number: number): FakeWire {
    const key = `${kind}${number}`;
    const found = this.#wires.get(key) ?? new FakeWire();
    this.#wires.set(key, found);
    return found;
  }
  isa(irq: number): InterruptLine {
    return this.wire("isa", irq).source();
  }
  pic(irq: number): InterruptLine {
    return this.wire("pic", irq).source();
  }
  ioapic(pin: number): InterruptLine {
    return this.wire("ioapic", pin).source();
  }
  msi(address: number, data: number): void {
    this.messages.push({ address, data });
  }
  trigger(irq: number, level: boolean): void {
    if (level) this.levelTriggered.add(irq);
    else this.levelTriggered.delete(irq);
  }
}

export class FakeClock implements Clock {
  #now = 0n;
  readonly #due = new Map<object, { at: bigint; callback: () => void }>();

  now(): bigint {
    return this.#now;
  }
  timer(callback: () => void): Timer {
    const key = {};
    return {
      arm: (at) => {
        this.#due.set(key, { at, callback });
      },
      cancel: () => {
        this.#due.delete(key);
      },
    };
  }
  /** Runs what falls due on the way, in order. */
  advance(nanoseconds: bigint): void {
    const end = this.#now + nanoseconds;
    for (;;) {
      const next = [...this.#due].sort(([, a], [, b]) => (a.at < b.at ? -1 : 1))[0];
      if (next === undefined || next[1].at > end) break;
      this.#due.delete(next[0]);
      if (next[1].at > this.#now) this.#now = next[1].at;
      next[1].callback();
    }
    this.#now = end;
  }
}

export class FakeMemory implements GuestMemory {
  readonly bytes: Uint8Array;
  readonly writes: { at: number; length: number }[] = [];

  constructor(size: number) {
    this.bytes = new Uint8Array(size);
  }
  get size(): number {
    return this.bytes.length;
  }
  get lowSize(): number {
    return this.bytes.length;
  }
  view(at: number, length: number): Uint8Array | undefined {
    const inside = at >= 0 && length >= 0 && at + length <= this.size;
    return inside ? this.bytes.subarray(at, at + length) : undefined;
  }
  read(at: number, into: Uint8Array): boolean {
    const from = this.view(at, into.length);
    if (from) into.set(from);
    return from !== undefined;
  }
  write(at: number, bytes: Uint8Array): boolean {
    const to = this.view(at, bytes.length);
    to?.set(bytes);
    if (to) this.written(at, bytes.length);
    return to !== undefined;
  }
  written(at: number, length: number): void {
    this.writes.push({ at, length });
  }
}

/** A file in memory, which grows. Requests end in the order of submitting, in the next turn. */
export class FakeFile implements HostFile {
  readonly #io: FakeIo;
  /** Shared with its twins. */
  readonly #content: { bytes: Uint8Array };
  /** What was asked for, and (while `held`) not done yet. */
  readonly requests: { operation: FileOperation; offset: number; length: number }[] = [];
  /** The error that an operation gets from now on. */
  readonly errors = new Map<FileOperation, number>();
  held = false;
  closed = false;
  #waiting: (() => void)[] = [];

  constructor(io: FakeIo, content: { bytes: Uint8Array }) {
    this.#io = io;
    this.#content = content;
  }
  get bytes(): Uint8Array {
    return this.#content.bytes;
  }
  twin(): FakeFile {
    return new FakeFile(this.#io, this.#content);
  }
  submit(
    operation: FileOperation,
    offset: number,
    length: number,
    pieces: readonly number[],
    done: (errno: number) => void,
  ): void {
    this.requests.push({ operation, offset, length });
    this.#waiting.push(() => {
      const errno = this.errors.get(operation) ?? 0;
      if (errno === 0) this.#perform(operation, offset, length, pieces);
      done(errno);
    });
    if (!this.held) queueMicrotask(() => this.release());
  }
  /** Everything that waits is done now. */
  release(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const finish of waiting) finish();
  }
  cancel(): void {
    this.#waiting = [];
  }
  close(): void {
    this.cancel();
    this.closed = true;
  }

  #perform(
    operation: FileOperation,
    offset: number,
    length: number,
    pieces: readonly number[],
  ): void {
    if (operation === "zero" || operation === "unmap") this.bytes.fill(0, offset, offset + length);
    if (operation === "write") this.#grow(offset + length);
    let at = offset;
    for (let i = 0; i < pieces.length; i += 2) {
      const [from = 0, size = 0] = [pieces[i], pieces[i + 1]];
      const memory = this.#io.piece(from, size);
      const part = this.bytes.subarray(at, at + size);
      if (operation === "write") part.set(memory);
      if (operation === "read") memory.set(part);
      if (operation === "read") memory.fill(0, part.length);
      if (operation === "clear") memory.fill(0);
      if (operation !== "write") this.#io.memory.written(from, size);
      at += size;
    }
  }

  #grow(size: number): void {
    if (size <= this.bytes.length) return;
    const larger = new Uint8Array(size);
    larger.set(this.bytes);
    this.#content.bytes = larger;
  }
}

export class FakeIo implements HostIo {
  readonly files = new Map<number, FakeFile>();
  readonly memory: GuestMemory;
  readonly #buffers = new Map<number, Uint8Array>();
  #nextBuffer = BUFFERS_FROM;

  constructor(memory: GuestMemory) {
    this.memory = memory;
  }
  buffer(size: number): HostBuffer {
    const at = this.#nextBuffer;
    this.#nextBuffer += 2 ** 31;
    const bytes = new Uint8Array(size);
    this.#buffers.set(at, bytes);
    return { at, bytes, free: () => void this.#buffers.delete(at) };
  }
  /** Throws RangeError where there is none, or a freed buffer: no device may ask for that. */
  piece(at: number, length: number): Uint8Array {
    const base = at - (at % 2 ** 31);
    const buffer = this.#buffers.get(base)?.subarray(at - base, at - base + length);
    const found = at < BUFFERS_FROM ? this.memory.view(at, length) : buffer;
    if (found?.length !== length) throw new RangeError(`no memory at ${at}`);
    return found;
  }
  /** What file() of this descriptor will be. */
  put(fd: number, bytes: Uint8Array): FakeFile {
    const file = new FakeFile(this, { bytes });
    this.files.set(fd, file);
    return file;
  }
  file(fd: number): FakeFile {
    return this.files.get(fd) ?? this.put(fd, new Uint8Array(0));
  }
}

/** PC16550D data sheet, table II, and bits of LSR. */
const UART = { data: 0, lsr: 5, scr: 7, dataReady: 1, empty: 0x60 } as const;

/** Two ends of a cable and a register that remembers: the chip itself is the core's to test. */
class FakeSerialChip implements SerialChip {
  readonly interrupting = false;
  readonly #attention: () => void;
  readonly #range: FakeRange | undefined;
  #called = false;
  #output: number[] = [];
  #input: number[] = [];
  #scratch = 0;

  constructor(bus: FakeBus, attention: () => void, wiring: SerialWiring | undefined) {
    this.#attention = attention;
    if (wiring === undefined) return;
    const { name, port } = wiring;
    this.#range = bus.map(
      { name, space: "pio", base: port, length: 8 },
      { read: (offset) => this.read(offset), write: (offset, _, byte) => this.write(offset, byte) },
    );
  }
  read(offset: number): number {
    if (offset === UART.data) return this.#input.shift() ?? 0;
    if (offset === UART.lsr) return UART.empty | (this.#input.length > 0 ? UART.dataReady : 0);
    return offset === UART.scr ? this.#scratch : 0;
  }
  write(offset: number, value: number): void {
    if (offset === UART.scr) this.#scratch = value;
    if (offset !== UART.data) return;
    this.#output.push(value);
    if (!this.#called) setImmediate(this.#attention);
    this.#called = true;
  }
  take(): Uint8Array {
    const taken = Uint8Array.from(this.#output);
    this.#output = [];
    this.#called = taken.length > 0;
    return taken;
  }
  receive(bytes: Uint8Array): boolean {
    this.#input.push(...bytes);
    return true;
  }
  receiveBreak(): void {}
  hold(): void {}
  reset(): void {
    this.#scratch = 0;
  }
  save(): SavedComponent {
    return { version: 1, state: this.#scratch };
  }
  restore(saved: unknown): string {
    this.#scratch = Number((saved as SavedComponent).state);
    return "";
  }
  unplug(): void {
    this.#range?.remove();
  }
}

export class FakeHost implements DeviceHost {
  readonly bus = new FakeBus();
  readonly interrupts = new FakeInterrupts();
  readonly clock = new FakeClock();
  readonly memory: FakeMemory;
  readonly io: FakeIo;
  readonly serial: SerialChips = {
    uart: (attention, wiring) => new FakeSerialChip(this.bus, attention, wiring),
  };

  constructor(memory = 64 * 1024) {
    this.memory = new FakeMemory(memory);
    this.io = new FakeIo(this.memory);
  }
}
