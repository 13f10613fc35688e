// One PCI function: identity, BARs, capabilities, interrupts. A device is made of one of these and
// what stands behind its BARs; the bus it is added to gives it addresses and wires.
import type { DeviceHost, InterruptLine, Range } from "../../native/types.js";
import { allOnes } from "../bits.js";
import type { Device } from "../device.js";
import type { Register } from "../registers.js";
import { base64, flag, fromBase64, optional, record, StateError, toBase64 } from "../state.js";
import { type BarAllocator, BarDecoder, type BarSpec } from "./bars.js";
import { ConfigSpace } from "./config-space.js";
import { Msix, msixBarSize, msixState, pendingOffset } from "./msix.js";
import {
  type Capability,
  COMMAND,
  CONVENTIONAL_SIZE,
  EXTENDED_SIZE,
  HEADER,
  HEADER_MULTIFUNCTION,
  MSI_CONTROL,
  MSI_OFFSET,
  MSIX_CONTROL,
  MSIX_CONTROL_OFFSET,
  msiCapability,
  msixCapability,
  rootPortCapability,
  STATUS,
} from "./registers.js";
import type { IntxPin } from "./routing.js";

export interface PciFunctionSpec {
  readonly name: string;
  readonly vendor: number;
  readonly device: number;
  /** Class, subclass and programming interface as one 24-bit number: 0x060000. */
  readonly classCode: number;
  readonly revision?: number;
  readonly subsystemVendor?: number;
  readonly subsystem?: number;
  readonly bars?: readonly BarSpec[];
  readonly intx?: boolean;
  readonly msi?: { readonly messages: 1 | 2 | 4 | 8 | 16 | 32 };
  /** Takes the BAR of this index for its table. */
  readonly msix?: { readonly vectors: number; readonly bar: number };
  readonly express?: "root-port";
  /** More capabilities, after those of the interrupts. */
  readonly capabilities?: readonly Capability[];
  /** Registers of the device's own in configuration space, from 0x40 on; no capabilities then. */
  readonly registers?: readonly Register[];
  /** The guest wrote to configuration space; also called after reset and restore, with offset 0. */
  configWritten?(config: ConfigSpace, offset: number, size: number): void;
  /** The guest is about to read it by the ports (reads by ECAM see what was there before). */
  configRead?(config: ConfigSpace, offset: number, size: number): void;
}

/** What the bus gives a function that is added to it. */
export interface PciPlace {
  readonly host: DeviceHost;
  readonly allocator: BarAllocator;
  readonly pin: IntxPin;
  readonly intx: InterruptLine;
  /** For the Interrupt Line register: what firmware would write there. */
  readonly irq: number;
  /** BARs moved: others may now have room. */
  decodeChanged(): void;
  /** Configuration space changed: publish it. */
  configChanged(): void;
}

const MESSAGE_WINDOW = 0xfee;

export class PciFunction implements Device {
  readonly name: string;
  readonly stateVersion = 1;
  readonly config: ConfigSpace;
  readonly spec: PciFunctionSpec;
  readonly #msix: Msix | undefined;
  readonly #msixAt: number | undefined;
  readonly #msiAt: number | undefined;
  readonly #more = new Map<Capability, number>();
  #bars: BarDecoder[] = [];
  #place: PciPlace | undefined;
  #intx = false;

  constructor(spec: PciFunctionSpec) {
    this.name = spec.name;
    this.spec = spec;
    this.config = new ConfigSpace(spec.express ? EXTENDED_SIZE : CONVENTIONAL_SIZE);
    this.#identify();
    if (spec.express) this.config.addCapability(rootPortCapability());
    this.#msiAt = spec.msi && this.config.addCapability(msiCapability(spec.msi.messages));
    this.#msix = spec.msix && new Msix(spec.msix.vectors, (...message) => this.#send(...message));
    this.#msixAt = spec.msix && this.config.addCapability(msixOf(spec.msix));
    for (const one of spec.capabilities ?? []) this.#more.set(one, this.config.addCapability(one));
    for (const register of spec.registers ?? []) this.config.define(0, register);
  }

  /** Called by the bus, once. */
  attach(place: PciPlace): void {
    this.#place = place;
    const { host, allocator } = place;
    this.#bars = this.#barSpecs().map(
      (bar) => new BarDecoder(host, this.config, this.name, bar, allocator),
    );
    if (this.spec.intx) {
      this.config.setResetOf("interruptPin", place.pin);
      this.config.setResetOf("interruptLine", place.irq);
    }
    place.configChanged();
  }

  /** Bit 7 of the header type of function 0: others follow. */
  setMultifunction(): void {
    this.config.setResetOf("headerType", HEADER_MULTIFUNCTION);
    this.#place?.configChanged();
  }

  /** Where one of the spec's own capabilities lies. */
  capabilityAt(capability: Capability): number {
    const at = this.#more.get(capability);
    if (at === undefined) throw new Error(`${this.name}: it has no such capability`);
    return at;
  }

  /** The range behind a BAR, for publishing shadows. */
  bar(index: number): Range | undefined {
    return this.#bars.find(({ spec }) => spec.index === index)?.range;
  }

  /** Beyond what the function has, conventional space reads as the original's: no capabilities. */
  readConfig(offset: number, size: number): number {
    if (offset + size <= this.config.size) {
      this.spec.configRead?.(this.config, offset, size);
      return this.config.read(offset, size);
    }
    return offset === CONVENTIONAL_SIZE && size === 4 ? 0 : allOnes(size);
  }

  writeConfig(offset: number, size: number, value: number): void {
    if (offset + size > this.config.size) return;
    this.config.write(offset, size, value);
    this.#follow(offset, size);
    if (offset < HEADER.rom.at && offset + size > HEADER.command.at) this.#redecode();
    this.#place?.configChanged();
  }

  get msiEnabled(): boolean {
    return this.#msiAt !== undefined && (this.#msiControl() & MSI_CONTROL.enable) !== 0;
  }
  get msixEnabled(): boolean {
    return (this.#msixControl() & MSIX_CONTROL.enable) !== 0;
  }

  /** Sends message `vector` by MSI-X or MSI; false where the guest enabled neither: use INTx. */
  signal(vector: number): boolean {
    if (this.msixEnabled) this.#msix?.raise(vector);
    else if (this.msiEnabled) this.#sendMsi(vector);
    else return false;
    return true;
  }

  /** The device's own interrupt condition; the pin follows it unless messages are on. */
  setIntx(level: boolean): void {
    if (level === this.#intx) return;
    this.#intx = level;
    this.#driveIntx();
    this.#place?.configChanged();
  }

  reset(): void {
    this.config.reset();
    this.#msix?.reset();
    this.#intx = false;
    this.#settle();
  }

  save(): unknown {
    return {
      config: toBase64(this.config.bytes),
      intx: this.#intx,
      msix: this.#msix?.save() ?? null,
    };
  }

  restore(state: unknown): void {
    const shape = record({
      config: base64(this.config.size),
      intx: flag,
      msix: optional(msixState(this.#msix?.vectors ?? 1)),
    });
    const { config, intx, msix } = shape(state, this.name);
    const bytes = fromBase64(config);
    this.#refuseOther(bytes);
    if ((msix === null) !== (this.#msix === undefined))
      throw new StateError(`${this.name}.msix: another set of capabilities`);
    this.config.restore(bytes);
    if (msix) this.#msix?.restore(msix);
    this.#intx = intx;
    this.#settle();
  }

  dispose(): void {
    for (const { range } of this.#bars) range.remove();
    this.#bars = [];
  }

  get blocked(): boolean {
    return this.#bars.some((bar) => bar.blocked);
  }
  applyBars(): void {
    for (const bar of this.#bars) bar.apply();
  }

  #identify(): void {
    const { spec, config } = this;
    config.setResetOf("vendor", spec.vendor);
    config.setResetOf("device", spec.device);
    config.setResetOf("revision", spec.revision ?? 0);
    config.setResetOf("progIf", spec.classCode & 0xff);
    config.setResetOf("subclass", (spec.classCode >> 8) & 0xff);
    config.setResetOf("classCode", spec.classCode >> 16);
    config.setResetOf("subsystemVendor", spec.subsystemVendor ?? 0);
    config.setResetOf("subsystem", spec.subsystem ?? 0);
  }

  #barSpecs(): BarSpec[] {
    const bars = [...(this.spec.bars ?? [])];
    const { msix } = this.spec;
    if (msix && this.#msix)
      bars.push({
        index: msix.bar,
        kind: "mem32",
        size: msixBarSize(msix.vectors),
        handler: this.#msix,
      });
    return bars.sort((a, b) => a.index - b.index);
  }

  #refuseOther(saved: Uint8Array): void {
    const view = new DataView(saved.buffer, saved.byteOffset);
    const id = view.getUint32(0, true);
    if (id !== this.config.read(0, 4) || view.getUint32(8, true) !== this.config.read(8, 4))
      throw new StateError(`${this.name}.config: another PCI device`);
  }

  /** Everything that hangs on configuration space, after all of it may have changed. */
  #settle(): void {
    this.#follow(0, this.config.size);
    this.#redecode();
    this.#place?.configChanged();
  }

  #follow(offset: number, size: number): void {
    const masked = (this.#msixControl() & MSIX_CONTROL.functionMask) !== 0;
    const master = (this.config.get("command") & COMMAND.busMaster) !== 0;
    this.#msix?.setOpen(this.msixEnabled && !masked && master);
    this.#driveIntx();
    this.spec.configWritten?.(this.config, offset, size);
  }

  #redecode(): void {
    this.applyBars();
    this.#place?.decodeChanged();
  }

  #msiControl(): number {
    return this.#msiAt === undefined ? 0 : this.config.read(this.#msiAt + MSI_OFFSET.control, 2);
  }
  #msixControl(): number {
    return this.#msixAt === undefined ? 0 : this.config.read(this.#msixAt + MSIX_CONTROL_OFFSET, 2);
  }

  /** The status bit says what the device wants, the pin what it may. */
  #driveIntx(): void {
    const { config } = this;
    const status = config.get("status") & ~STATUS.interrupt;
    config.set(HEADER.status.at, 2, status | (this.#intx ? STATUS.interrupt : 0));
    const disabled = (config.get("command") & COMMAND.intxDisable) !== 0;
    const messages = this.msiEnabled || this.msixEnabled;
    this.#place?.intx.set(this.#intx && !disabled && !messages);
  }

  #sendMsi(vector: number): void {
    const at = this.#msiAt;
    if (at === undefined || !(this.config.get("command") & COMMAND.busMaster)) return;
    const asked = (this.#msiControl() & MSI_CONTROL.enabledMessages) >> 4;
    const count = Math.min(2 ** asked, this.spec.msi?.messages ?? 1);
    const data = this.config.read(at + MSI_OFFSET.data, 2);
    this.#send(
      this.config.read(at + MSI_OFFSET.address, 4),
      this.config.read(at + MSI_OFFSET.upper, 4),
      (data & ~(count - 1)) | (vector & (count - 1)),
    );
  }

  /** A message that is addressed to no local APIC is a write to nowhere. */
  #send(address: number, upper: number, data: number): void {
    if (upper === 0 && address >>> 20 === MESSAGE_WINDOW)
      this.#place?.host.interrupts.msi(address >>> 0, data >>> 0);
  }
}

const msixOf = ({ vectors, bar }: { vectors: number; bar: number }) =>
  msixCapability(vectors, bar, pendingOffset(vectors));
