// An AHCI host bus adapter on the PCI bus: AHCI 1.3.1. One to 32 ports with a disk or a packet device
// each; interrupts by one MSI message or the INTx pin.
//
// All registers are shadows, and all writes of them posted: what the guest reads is what the last
// served write and the last completion left. A line that a posted write lowers is low before the
// EOI, which waits for posted writes (design.md, "Exits").
import type { DeviceHost, RangeHandler, RegisterWays } from "../../native/types.js";
import type { Device, Rests } from "../device.js";
import type { PciAddress, PciBus } from "../pci/bus.js";
import { PciFunction } from "../pci/function.js";
import { RegisterFile } from "../registers.js";
import { list, record, type Shape, StateError, u32 } from "../state.js";
import type { DeviceLink, SataDevice } from "./device.js";
import { Port, portState } from "./port.js";
import {
  CAP,
  GHC,
  HBA,
  type HbaRegister,
  MAX_PORTS,
  PORT,
  PORT_SIZE,
  PORTS_BASE,
} from "./registers.js";

export interface AhciOptions {
  /** Unique in the machine: the component's name in saved state. */
  readonly name: string;
  readonly address: PciAddress;
  /** What hangs on the ports, from port 0 on. */
  readonly devices: readonly ((link: DeviceLink) => SataDevice)[];
  log(text: string): void;
}

/** The original's: an ICH8's controller. */
const IDENTITY = { vendor: 0x8086, device: 0x2821 } as const;
/** PCI Code and ID Assignment 1.0: a Serial ATA controller with the AHCI interface. */
const CLASS_AHCI = 0x010601;
const BAR = 5;
/** The original's BAR, of six ports. */
const MIN_BAR = 0x400;

const anything: Shape<unknown> = (value) => value;
const STATE = record({
  function: anything,
  registers: record({ ghc: u32, is: u32 }),
  ports: list(portState, MAX_PORTS),
});

export class Ahci implements Device, Rests {
  readonly name: string;
  readonly stateVersion = 1;
  readonly ports: readonly Port[] = [];
  readonly #function: PciFunction;
  readonly #registers: RegisterFile<HbaRegister>;
  readonly #published: Uint32Array;

  constructor(host: DeviceHost, pci: PciBus, { name, address, devices, log }: AhciOptions) {
    if (devices.length < 1 || devices.length > MAX_PORTS)
      throw new Error(`${name}: ${devices.length} ports`);
    this.name = name;
    this.#function = this.#makeFunction(devices.length);
    pci.add(address, this.#function);
    this.#published = wordsOf(this.#function);
    this.#registers = new RegisterFile(
      HBA,
      {
        ghc: (now, before) => this.#controlWritten(now, before),
        is: () => this.#interruptsChanged(true),
      },
      (register, value) => this.#publish(HBA[register].at, value),
    );
    this.#identify(devices.length);
    this.ports = devices.map((create, index) => {
      const at = PORTS_BASE + PORT_SIZE * index;
      const wires = {
        memory: host.memory,
        interruptsChanged: () => this.#interruptsChanged(),
        publish: (offset: number, value: number) => this.#publish(at + offset, value),
        log: (text: string) => log(`${name}, port ${index}: ${text}`),
      };
      return new Port(wires, create);
    });
  }

  get pciFunction(): PciFunction {
    return this.#function;
  }

  reset(): void {
    this.#function.reset();
    this.#registers.reset();
    this.#identify(this.ports.length);
    for (const port of this.ports) port.powerOn();
  }

  async rest(): Promise<void> {
    await Promise.all(this.ports.map((port) => port.rest()));
  }
  wake(): void {
    for (const port of this.ports) port.wake();
  }

  save(): unknown {
    return {
      function: this.#function.save(),
      registers: { ghc: this.#registers.get("ghc"), is: this.#registers.get("is") },
      ports: this.ports.map((port) => port.save()),
    };
  }

  restore(state: unknown): void {
    const saved = STATE(state, this.name);
    if (saved.ports.length !== this.ports.length)
      throw new StateError(`${this.name}.ports: ${this.ports.length} expected`);
    const restorers = this.ports.map((port, index) => {
      const one = saved.ports[index];
      return one && port.prepareRestore(one, `${this.name}.ports[${index}]`);
    });
    this.#function.restore(saved.function);
    for (const restore of restorers) restore?.();
    this.#registers.set("ghc", saved.registers.ghc);
    this.#registers.set("is", saved.registers.is);
    this.#function.setIntx(this.#wanted);
  }

  dispose(): void {
    for (const port of this.ports) port.dispose();
    this.#function.dispose();
  }

  #makeFunction(ports: number): PciFunction {
    const size = Math.max(MIN_BAR, 2 ** Math.ceil(Math.log2(PORTS_BASE + PORT_SIZE * ports)));
    const handler = this.#handler();
    return new PciFunction({
      name: this.name,
      ...IDENTITY,
      classCode: CLASS_AHCI,
      subsystemVendor: IDENTITY.vendor,
      subsystem: IDENTITY.device,
      intx: true,
      msi: { messages: 1 },
      bars: [{ index: BAR, kind: "mem32", size, handler, ways: waysOf(ports, size) }],
    });
  }

  #handler(): RangeHandler {
    const port = (offset: number): Port | undefined =>
      this.ports[Math.floor((offset - PORTS_BASE) / PORT_SIZE)];
    return {
      read: (offset, size) =>
        offset < PORTS_BASE
          ? this.#registers.read(offset, size)
          : (port(offset)?.read(offset % PORT_SIZE, size) ?? 0),
      write: (offset, size, value) => {
        if (offset < PORTS_BASE) this.#registers.write(offset, size, value);
        else port(offset)?.write(offset % PORT_SIZE, size, value);
      },
      doorbell: (offset, value) => port(offset)?.issue((value << (8 * (offset & 3))) >>> 0),
    };
  }

  /** What the specification lets each implementation say of itself. */
  #identify(ports: number): void {
    const capabilities = Object.values(CAP).reduce((all, one) => all | one, 0);
    this.#registers.set("cap", capabilities | (ports - 1));
    this.#registers.set("pi", ports === MAX_PORTS ? 0xffff_ffff : 2 ** ports - 1);
  }

  #publish(at: number, value: number): void {
    Atomics.store(this.#published, at / 4, value);
  }

  #controlWritten(now: number, before: number): void {
    if (now & GHC.reset) this.#resetHba();
    else if (now & ~before & GHC.interrupts) this.#interruptsChanged(true);
    else this.#interruptsChanged();
  }

  /** "HBA Reset": HR reads as 0 when it is done, which is at once. */
  #resetHba(): void {
    this.#registers.reset();
    this.#identify(this.ports.length);
    for (const port of this.ports) port.reset();
    this.#interruptsChanged();
  }

  get #wanted(): boolean {
    const on = (this.#registers.get("ghc") & GHC.interrupts) !== 0;
    return on && this.#registers.get("is") !== 0;
  }

  /**
   * "Interrupt Aggregation": a port that interrupts sets its bit, and sets it again where software
   * clears it too early. A message is sent for every new bit, and when bits are left after software
   * cleared some (`again`).
   */
  #interruptsChanged(again = false): void {
    const before = this.#registers.get("is");
    let now = before;
    for (const [index, port] of this.ports.entries()) if (port.interrupting) now |= 1 << index;
    now >>>= 0;
    if (now !== before) this.#registers.set("is", now);
    const wanted = this.#wanted;
    this.#function.setIntx(wanted);
    if (wanted && (again || now !== before)) this.#function.signal(0);
  }
}

function wordsOf(made: PciFunction): Uint32Array {
  const range = made.bar(BAR);
  if (range === undefined) throw new Error(`${made.name}: its BAR is not on the bus`);
  const { buffer, byteOffset, byteLength } = range.shadow;
  return new Uint32Array(buffer, byteOffset, byteLength / 4);
}

/** Everything is a shadow and posted, but for what starts commands. */
function waysOf(ports: number, length: number): RegisterWays[] {
  const ways: RegisterWays[] = [];
  const posted = (at: number, end: number): void => {
    if (end > at) ways.push({ at, length: end - at, read: "shadow", write: "posted" });
  };
  let at = 0;
  for (let index = 0; index < ports; index++) {
    const issue = PORTS_BASE + PORT_SIZE * index + PORT.ci.at;
    posted(at, issue);
    ways.push({ at: issue, length: 4, read: "shadow", write: "doorbell" });
    at = issue + 4;
  }
  posted(at, length);
  return ways;
}
