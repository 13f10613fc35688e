// The PCI host: configuration mechanism #1 at 0xCF8, ECAM, and the functions behind them.
// PCI Local Bus Specification 3.0, "Configuration Mechanism #1"; PCI Express 3.0, "PCI Express
// Enhanced Configuration Access Mechanism (ECAM)".
//
// Writes of configuration space are direct, since they move decoders and route interrupts; so what
// bus 0's part of ECAM publishes is always what the last write left, and reads of it are shadows. A
// kernel that looks for functions on 256 buses through the ports asks 8,192 times: the address port is
// a latch, and the data port reads what ECAM publishes.
import type { DeviceHost, Range, ReadWay } from "../../native/types.js";
import { allOnes } from "../bits.js";
import type { Device } from "../device.js";
import { RESET_PORT } from "../reset/registers.js";
import { record, u32 } from "../state.js";
import { BUS_SHIFT, CONFIG_PORTS, ECAM, FUNCTION_SHIFT, IO_WINDOW } from "./address-map.js";
import { BarAllocator } from "./bars.js";
import type { PciFunction } from "./function.js";
import { CONVENTIONAL_SIZE } from "./registers.js";
import { type IntxPin, IntxRouter, PIRQ_DEFAULTS, pinOf, pirqOf } from "./routing.js";

export interface PciAddress {
  readonly bus: number;
  readonly slot: number;
  readonly fn: number;
}

export interface PciOptions {
  /** The byte register inside the address port: 0xCF9. */
  readonly resetControl?: { read(): number; write(value: number): void };
  /** I/O BARs are placed from here on. */
  readonly ioFrom?: number;
}

/** An INTx pin in use, for the MP table and for people who look. */
export interface IntxUse extends PciAddress {
  readonly name: string;
  readonly pin: IntxPin;
}

const ADDRESS_ENABLE = 0x80000000;
/** "bits 30:24 are reserved … and must return 0", bits 1:0 too. */
const ADDRESS_WRITABLE = 0x80fffffc;
const DATA_PORT = 4;
const BUS_SIZE = 2 ** BUS_SHIFT;
const STATE = record({ address: u32 });

/** Bus, slot and function as one number: bits 27:12 of an ECAM offset. */
const keyOf = ({ bus, slot, fn }: PciAddress): number => (bus << 8) | (slot << 3) | fn;

export class PciBus implements Device {
  readonly name = "pci";
  readonly stateVersion = 1;
  readonly router: IntxRouter;
  readonly #host: DeviceHost;
  readonly #options: PciOptions;
  readonly #allocator: BarAllocator;
  readonly #functions = new Map<number, PciFunction>();
  readonly #intx: IntxUse[] = [];
  readonly #published: Range;
  readonly #ports: Range;
  #otherBuses: Range;

  constructor(host: DeviceHost, options: PciOptions = {}) {
    this.#host = host;
    this.#options = options;
    this.router = new IntxRouter(host.interrupts);
    this.#allocator = new BarAllocator(options.ioFrom ?? IO_WINDOW.base);
    this.#published = this.#mapBus0();
    this.#otherBuses = this.#mapOtherBuses("ones");
    this.#ports = this.#mapPorts();
    const { buffer, byteOffset, byteLength } = this.#published.shadow;
    new Uint8Array(buffer, byteOffset, byteLength).fill(0xff); // absent functions
  }

  /** Throws where the address is taken or impossible: the machine definition's mistake. */
  add(address: PciAddress, fn: PciFunction): void {
    const { bus, slot } = address;
    const where = `${bus}:${slot}:${address.fn}`;
    const inRange = (value: number, max: number) =>
      Number.isInteger(value) && value >= 0 && value <= max;
    if (!inRange(bus, 255) || !inRange(slot, 31) || !inRange(address.fn, 7))
      throw new Error(`PCI ${where}: no such address`);
    if (this.#functions.has(keyOf(address))) throw new Error(`PCI ${where}: two functions`);
    if (bus !== 0) this.#askOfOtherBuses();
    this.#functions.set(keyOf(address), fn);
    const pin = pinOf(address.fn);
    fn.attach({
      host: this.#host,
      allocator: this.#allocator,
      pin,
      intx: fn.spec.intx ? this.router.line(slot, pin) : NO_LINE,
      irq: PIRQ_DEFAULTS[pirqOf(slot, pin)] ?? 0,
      decodeChanged: () => this.#retryBlocked(fn),
      configChanged: () => this.#publish(address, fn),
    });
    if (fn.spec.intx) this.#intx.push({ ...address, name: fn.name, pin });
    this.#markMultifunction(address);
  }

  /** In the order in which functions were added. */
  get intxUses(): readonly IntxUse[] {
    return this.#intx;
  }
  function(address: PciAddress): PciFunction | undefined {
    return this.#functions.get(keyOf(address));
  }

  reset(): void {
    this.#address = 0;
    this.router.reset();
  }
  save(): unknown {
    return { address: this.#address };
  }
  restore(state: unknown): void {
    this.#address = STATE(state, this.name).address;
  }
  dispose(): void {
    for (const range of [this.#published, this.#otherBuses, this.#ports]) range.remove();
  }

  get #address(): number {
    return this.#ports.shadow.getUint32(0, true);
  }
  set #address(value: number) {
    this.#ports.shadow.setUint32(0, (value & ADDRESS_WRITABLE) >>> 0, true);
  }

  #mapPorts(): Range {
    const ways = [
      { at: 0, length: DATA_PORT, read: "latch", write: "latch", mask: ADDRESS_WRITABLE },
      { at: DATA_PORT, length: 4, read: "configuration", ecam: ECAM.base },
    ] as const;
    return this.#host.bus.map(
      { name: "pci-config", space: "pio", ...CONFIG_PORTS, ways },
      {
        read: (offset, size) =>
          offset < DATA_PORT ? this.#readAddress(offset, size) : this.#readData(offset, size),
        write: (offset, size, value) => {
          if (offset < DATA_PORT) this.#writeAddress(offset, size, value);
          else this.#writeData(offset, size, value);
        },
      },
    );
  }

  #mapBus0(): Range {
    const ways = [{ at: 0, length: BUS_SIZE, read: "shadow", write: "direct" }] as const;
    const spec = {
      name: "pci-ecam",
      space: "mmio",
      base: ECAM.base,
      length: BUS_SIZE,
      ways,
    } as const;
    return this.#host.bus.map(spec, {
      read: (offset, size) => this.#read(offset, size),
      write: (offset, size, value) => this.#write(offset, size, value),
    });
  }

  /** From the first function on another bus on, the device is asked. */
  #askOfOtherBuses(): void {
    this.#otherBuses.remove();
    this.#otherBuses = this.#mapOtherBuses("direct");
  }

  #mapOtherBuses(read: ReadWay): Range {
    const base = ECAM.base + BUS_SIZE;
    const length = ECAM.length - BUS_SIZE;
    const ways = [{ at: 0, length, read }];
    return this.#host.bus.map(
      { name: "pci-ecam-buses", space: "mmio", base, length, ways },
      {
        read: (offset, size) => this.#read(offset + BUS_SIZE, size),
        write: (offset, size, value) => this.#write(offset + BUS_SIZE, size, value),
      },
    );
  }

  /** Only a whole dword is the address register; one byte of it is another register. */
  #readAddress(offset: number, size: number): number {
    if (offset === 0 && size === 4) return this.#address;
    const { resetControl } = this.#options;
    return CONFIG_PORTS.base + offset === RESET_PORT && size === 1 && resetControl
      ? resetControl.read()
      : allOnes(size);
  }

  #writeAddress(offset: number, size: number, value: number): void {
    if (offset === 0 && size === 4) this.#address = value;
    else if (CONFIG_PORTS.base + offset === RESET_PORT && size === 1)
      this.#options.resetControl?.write(value);
  }

  #readData(offset: number, size: number): number {
    const at = this.#target(offset);
    return at === undefined ? allOnes(size) : this.#read(at, size);
  }
  #writeData(offset: number, size: number, value: number): void {
    const at = this.#target(offset);
    if (at !== undefined) this.#write(at, size, value);
  }

  /** The address register in ECAM's terms, with the byte that the data port's lane selects. */
  #target(offset: number): number | undefined {
    if (!(this.#address & ADDRESS_ENABLE)) return undefined;
    const key = (this.#address >>> 8) & 0xffff;
    return key * 2 ** FUNCTION_SHIFT + (this.#address & 0xfc) + (offset - DATA_PORT);
  }

  /** What is absent, or not aligned to its own size, reads as all ones and swallows writes. */
  #read(at: number, size: number): number {
    const fn = this.#functions.get(at >>> FUNCTION_SHIFT);
    if (fn === undefined || at % size !== 0) return allOnes(size);
    return fn.readConfig(at & 0xfff, size);
  }
  #write(at: number, size: number, value: number): void {
    if (at % size === 0)
      this.#functions.get(at >>> FUNCTION_SHIFT)?.writeConfig(at & 0xfff, size, value);
  }

  #publish(address: PciAddress, fn: PciFunction): void {
    if (address.bus !== 0) return;
    const { buffer, byteOffset } = this.#published.shadow;
    const at = byteOffset + keyOf(address) * 2 ** FUNCTION_SHIFT;
    const page = new Uint8Array(buffer, at, 2 ** FUNCTION_SHIFT);
    page.set(fn.config.bytes);
    if (!fn.config.extended) page.fill(0, CONVENTIONAL_SIZE, CONVENTIONAL_SIZE + 4);
  }

  #retryBlocked(moved: PciFunction): void {
    for (const fn of this.#functions.values()) if (fn !== moved && fn.blocked) fn.applyBars();
  }

  /** "Header Type" bit 7 of function 0 tells whether to look for others. */
  #markMultifunction({ bus, slot }: PciAddress): void {
    const others = [1, 2, 3, 4, 5, 6, 7].some((fn) =>
      this.#functions.has(keyOf({ bus, slot, fn })),
    );
    if (others) this.#functions.get(keyOf({ bus, slot, fn: 0 }))?.setMultifunction();
  }
}

const NO_LINE = { set: () => {}, pulse: () => {} };
