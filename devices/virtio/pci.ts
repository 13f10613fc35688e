// A virtio device on the PCI bus: VIRTIO 1.2, "Virtio Over PCI Bus". Transitional where the device
// type has a transitional id: BAR 0 is the legacy interface, BAR 1 the MSI-X table (the original's
// places), BAR 2 the structures of virtio 1. Interrupts go by MSI-X, by one MSI message, or by the
// INTx pin with its ISR byte, as the guest has chosen.
import type { DeviceHost, RangeHandler, RegisterWays } from "../../native/types.js";
import { allOnes } from "../bits.js";
import type { Device, Rests } from "../device.js";
import type { PciAddress, PciBus } from "../pci/bus.js";
import type { ConfigSpace } from "../pci/config-space.js";
import { PciFunction } from "../pci/function.js";
import type { Capability } from "../pci/registers.js";
import { defineBlock } from "../registers.js";
import { int, record, type Shape } from "../state.js";
import { COMMON_LENGTH, CommonRegisters, selectorState } from "./common-registers.js";
import { VirtioCore } from "./core.js";
import type { VirtioDevice } from "./device.js";
import {
  LEGACY_WAYS,
  LegacyRegisters,
  legacyBarSize,
  type RegisterHost,
} from "./legacy-registers.js";
import { ISR, MODERN_DEVICE_BASE, NO_VECTOR, VIRTIO_VENDOR } from "./specification.js";

export interface VirtioPciOptions {
  /** Unique in the machine: the component's name in saved state. */
  readonly name: string;
  readonly address: PciAddress;
  /** False: one MSI message or INTx (bhyve's -W). */
  readonly msix: boolean;
  log(text: string): void;
}

const BAR = { legacy: 0, msix: 1, modern: 2 } as const;
/** Our choice: a page each, so that a guest could map them apart. */
const STRUCTURE = { common: 0x0000, isr: 0x1000, device: 0x2000, notify: 0x3000 } as const;
const MODERN_SIZE = 0x4000;
const NOTIFY_MULTIPLIER = 4;
const MAX_QUEUES = (MODERN_SIZE - STRUCTURE.notify) / NOTIFY_MULTIPLIER;

/** "Virtio Structure PCI Capabilities": cfg_type. */
const CFG_TYPE = { common: 1, notify: 2, isr: 3, device: 4, pci: 5 } as const;
const VENDOR_CAPABILITY = 0x09;
const CAPABILITY_LENGTH = 16;

type Fixed = readonly [at: number, width: 1 | 2 | 4, value: number];

const capability = (length: number, fixed: readonly Fixed[], free: readonly Fixed[] = []) => {
  const cite = 'VIRTIO 1.2, "Virtio Structure PCI Capabilities"';
  const row =
    (access: "ro" | "rw") =>
    ([at, width, reset]: Fixed) =>
      [`at${at}`, { at, width, access, reset, cite }] as const;
  const block = Object.fromEntries([...fixed.map(row("ro")), ...free.map(row("rw"))]);
  const registers = defineBlock("virtio structure", length, block);
  return { id: VENDOR_CAPABILITY, length, registers } satisfies Capability;
};

const structure = (type: number, offset: number, length: number, more: readonly Fixed[] = []) => {
  const size = CAPABILITY_LENGTH + 4 * more.length;
  return capability(size, [
    [2, 1, size],
    [3, 1, type],
    [4, 1, BAR.modern],
    [8, 4, offset],
    [12, 4, length],
    ...more,
  ]);
};

/** "PCI configuration access capability": bar, offset, length, then the data window. */
const WINDOW = { bar: 4, offset: 8, length: 12, data: 16, size: 20 } as const;
const windowCapability = capability(
  WINDOW.size,
  [
    [2, 1, WINDOW.size],
    [3, 1, CFG_TYPE.pci],
  ],
  [
    [WINDOW.bar, 1, 0],
    [WINDOW.offset, 4, 0],
    [WINDOW.length, 4, 0],
    [WINDOW.data, 4, 0],
  ],
);

export class VirtioPci<Options> implements Device, Rests {
  readonly name: string;
  readonly stateVersion = 1;
  readonly core: VirtioCore<Options>;
  readonly #function: PciFunction;
  readonly #legacy: LegacyRegisters<Options>;
  readonly #common: CommonRegisters<Options>;
  #isr = 0;

  constructor(
    host: DeviceHost,
    pci: PciBus,
    device: VirtioDevice<Options>,
    options: Options,
    { name, address, msix, log }: VirtioPciOptions,
  ) {
    this.name = name;
    const queues = device.queues(options).length;
    if (queues > MAX_QUEUES) throw new Error(`${name}: ${queues} queues`);
    const registers = this.#registerHost(msix ? queues + 1 : 0);
    this.#legacy = new LegacyRegisters(() => this.core, registers);
    this.#common = new CommonRegisters(() => this.core, registers);
    const interrupt = (kind: number) => (vector: number) => this.#interrupt(kind, vector);
    this.core = new VirtioCore(name, device, options, {
      memory: host.memory,
      clock: host.clock,
      interruptQueue: interrupt(ISR.queue),
      interruptConfig: interrupt(ISR.config),
      log,
    });
    this.#function = this.#makeFunction(device, queues, msix);
    pci.add(address, this.#function);
  }

  get pciFunction(): PciFunction {
    return this.#function;
  }

  reset(): void {
    this.core.reset();
    this.#isr = 0;
    this.#legacy.selected = 0;
    this.#common.selectors = { deviceFeature: 0, driverFeature: 0, queue: 0 };
    this.#function.reset();
  }

  rest(): Promise<void> {
    return this.core.rest();
  }
  wake(): void {
    this.core.wake();
  }

  save(): unknown {
    return {
      function: this.#function.save(),
      core: this.core.save(),
      selectors: { ...this.#common.selectors, legacyQueue: this.#legacy.selected },
      isr: this.#isr,
      model: this.core.model.save?.() ?? null,
    };
  }

  restore(state: unknown): void {
    const saved = stateShape(state, this.name);
    const restoreCore = this.core.prepareRestore(saved.core);
    const restoreModel = this.core.model.restore?.(saved.model);
    this.#function.restore(saved.function);
    restoreCore();
    restoreModel?.();
    const { legacyQueue, ...selectors } = saved.selectors;
    this.#legacy.selected = legacyQueue;
    this.#common.selectors = selectors;
    this.#isr = saved.isr;
  }

  dispose(): void {
    this.core.dispose();
    this.#function.dispose();
  }

  #registerHost(vectors: number): RegisterHost {
    const enabled = (): boolean => this.#function.msixEnabled;
    return {
      get msixEnabled() {
        return enabled();
      },
      vector: (wanted) => (wanted < vectors ? wanted : NO_VECTOR),
      takeIsr: () => {
        const isr = this.#isr;
        this.#isr = 0;
        this.#function.setIntx(false);
        return isr;
      },
    };
  }

  /** "Available Buffer Notifications", "Used Buffer Notifications" and ISR status. */
  #interrupt(kind: number, vector: number): void {
    const { msixEnabled, msiEnabled } = this.#function;
    if (!msixEnabled || kind === ISR.config) this.#isr |= kind;
    if (msixEnabled) {
      if (vector !== NO_VECTOR) this.#function.signal(vector);
      return;
    }
    if (msiEnabled) this.#function.signal(0);
    this.#function.setIntx(true);
  }

  #makeFunction(device: VirtioDevice<Options>, queues: number, msix: boolean): PciFunction {
    const { type, transitional, classCode, configLength } = device;
    const legacy = {
      index: BAR.legacy,
      kind: "io",
      size: legacyBarSize(configLength),
      handler: this.#legacy,
      ways: LEGACY_WAYS,
    } as const;
    const modern = {
      index: BAR.modern,
      kind: "mem32",
      size: MODERN_SIZE,
      handler: this.#modernHandler(),
      ways: notifyWays(queues),
    } as const;
    let windowAt = 0;
    const made: PciFunction = new PciFunction({
      name: this.name,
      vendor: VIRTIO_VENDOR,
      device: transitional ?? MODERN_DEVICE_BASE + type,
      revision: transitional === undefined ? 1 : 0,
      subsystemVendor: VIRTIO_VENDOR,
      subsystem: type,
      classCode,
      intx: true,
      msi: { messages: 1 },
      ...(msix && { msix: { vectors: queues + 1, bar: BAR.msix } }),
      bars: transitional === undefined ? [modern] : [legacy, modern],
      capabilities: [...structures(queues, configLength), windowCapability],
      configWritten: (config, offset, size) =>
        this.#window(config, windowAt, offset, size, "write"),
      configRead: (config, offset, size) => this.#window(config, windowAt, offset, size, "read"),
    });
    windowAt = made.capabilityAt(windowCapability);
    return made;
  }

  #modernHandler(): RangeHandler {
    return {
      read: (offset, size) => this.#readModern(offset, size),
      write: (offset, size, value) => this.#writeModern(offset, size, value),
      doorbell: (_offset, value) => this.core.notify(value & 0xffff),
    };
  }

  #readModern(offset: number, size: number): number {
    if (offset < STRUCTURE.isr) return this.#common.read(offset, size);
    if (offset === STRUCTURE.isr && size === 1) return this.#legacy.read(0x13, 1);
    if (offset >= STRUCTURE.device && offset < STRUCTURE.notify)
      return this.core.readConfig(offset - STRUCTURE.device, size);
    return offset >= STRUCTURE.notify ? 0 : allOnes(size);
  }

  #writeModern(offset: number, size: number, value: number): void {
    if (offset < STRUCTURE.isr) this.#common.write(offset, size, value);
    else if (offset >= STRUCTURE.notify) this.core.notify(value & 0xffff);
    else if (offset >= STRUCTURE.device)
      this.core.writeConfig(offset - STRUCTURE.device, size, value);
  }

  /**
   * The data window of the configuration access capability. A write of it goes to the BAR at once; a
   * read by the ports at 0xCF8 comes from there. ECAM shows what the window held last, refreshed
   * when the window is moved: nothing but firmware without memory decoding uses it.
   */
  #window(config: ConfigSpace, at: number, offset: number, size: number, way: "read" | "write") {
    if (at === 0 || offset + size <= at + WINDOW.bar || offset >= at + WINDOW.size) return;
    const isData = offset + size > at + WINDOW.data;
    const length = config.read(at + WINDOW.length, 4);
    const target = config.read(at + WINDOW.offset, 4);
    if (config.read(at + WINDOW.bar, 1) !== BAR.modern) return;
    if (![1, 2, 4].includes(length) || target % length !== 0 || target >= MODERN_SIZE) return;
    if (way === "write" && isData && size <= 4)
      this.#writeModern(target, length, lowBytes(config.read(at + WINDOW.data, 4), length));
    else if (way === "read" ? isData : target !== STRUCTURE.isr)
      config.set(at + WINDOW.data, length, this.#readModern(target, length));
  }
}

const lowBytes = (value: number, length: number): number => (value & allOnes(length)) >>> 0;

const structures = (queues: number, configLength: number): Capability[] => [
  structure(CFG_TYPE.common, STRUCTURE.common, COMMON_LENGTH),
  structure(CFG_TYPE.isr, STRUCTURE.isr, 1),
  ...(configLength > 0 ? [structure(CFG_TYPE.device, STRUCTURE.device, configLength)] : []),
  structure(CFG_TYPE.notify, STRUCTURE.notify, NOTIFY_MULTIPLIER * queues, [
    [CAPABILITY_LENGTH, 4, NOTIFY_MULTIPLIER],
  ]),
];

const notifyWays = (queues: number): RegisterWays[] =>
  Array.from({ length: queues }, (_, index) => ({
    at: STRUCTURE.notify + NOTIFY_MULTIPLIER * index,
    length: NOTIFY_MULTIPLIER,
    write: "doorbell",
    rings: index, // the address says it too (VIRTIO 1.2, "Notification structure layout")
  }));

const anything: Shape<unknown> = (value) => value;
const stateShape = record({
  function: anything,
  core: anything,
  selectors: selectorState,
  isr: int(0, 3),
  model: anything,
});
