// What a device is, and the ordered set of them that one machine has.
//
// A machine calls, always on the JavaScript thread that serves the bus: reset() only while no vCPU
// runs; save() and restore() only while paused and with every posted write served; dispose() once,
// last. A restore() that throws has changed nothing.
import type { SavedComponent } from "../native/types.js";
import { StateError } from "./state.js";

export interface Device {
  /** Unique in its machine; the component's name in saved state. */
  readonly name: string;
  /** Grows when the shape of what save() returns changes. */
  readonly stateVersion: number;
  /** Plain JSON. */
  save(): unknown;
  /** Takes what save() of this version returned; throws StateError naming device and field. */
  restore(state: unknown): void;
  /** Back to power-on. */
  reset(): void;
  dispose?(): void;
}

/** A device that the host can ask to shut the guest down. */
export interface PowerButton {
  /** False where the guest has not enabled ACPI and would not notice. */
  press(): boolean;
}

/** A device that holds output back for a moment; flush() hands it over now. */
export interface Flushes {
  flush(): void;
}

/** A device with work of its own under way, which comes to rest before its state is whole. */
export interface Rests {
  /** Starts nothing any more; resolves when all that is under way is done or held in its state. */
  rest(): Promise<void>;
  wake(): void;
}

const canRest = (device: Device): device is Device & Rests =>
  "rest" in device && typeof device.rest === "function";

export const canFlush = (device: Device): device is Device & Flushes =>
  "flush" in device && typeof device.flush === "function";

/** Throws where a device would not survive a save: our mistake, found when it is registered. */
export function checkDevice(device: Device): void {
  if (!/^[a-z0-9][a-z0-9:._-]*$/.test(device.name))
    throw new Error(`device name "${device.name}" is not lower-case letters, digits and :._-`);
  if (!Number.isInteger(device.stateVersion) || device.stateVersion < 1)
    throw new Error(`${device.name}: stateVersion must be an integer from 1`);
  const state = device.save();
  if (state === undefined) throw new Error(`${device.name}: save() returned nothing`);
  const text = JSON.stringify(state);
  device.restore(JSON.parse(text));
  if (JSON.stringify(device.save()) !== text)
    throw new Error(`${device.name}: its state does not survive save, restore, save`);
}

/** The devices of one machine in the order in which they are reset, saved and restored. */
export class DeviceSet {
  readonly #devices = new Map<string, Device>();

  add<D extends Device>(device: D): D {
    if (this.#devices.has(device.name)) throw new Error(`two devices are named ${device.name}`);
    checkDevice(device);
    this.#devices.set(device.name, device);
    return device;
  }

  get(name: string): Device | undefined {
    return this.#devices.get(name);
  }

  [Symbol.iterator](): IterableIterator<Device> {
    return this.#devices.values();
  }

  reset(): void {
    for (const device of this) device.reset();
  }

  flush(): void {
    for (const device of this) if (canFlush(device)) device.flush();
  }

  /** While no vCPU runs, before save(); wake() before they run again. */
  async rest(): Promise<void> {
    await Promise.all([...this].map((device) => canRest(device) && device.rest()));
  }
  wake(): void {
    for (const device of this) if (canRest(device)) device.wake();
  }

  save(): Record<string, SavedComponent> {
    this.flush();
    const all: Record<string, SavedComponent> = {};
    for (const device of this)
      all[device.name] = { version: device.stateVersion, state: device.save() };
    return all;
  }

  /** All or nothing: where one device refuses, those before it get their old state back. */
  restore(components: Readonly<Record<string, SavedComponent>>): void {
    this.#match(components);
    const done: [Device, unknown][] = [];
    try {
      for (const device of this) {
        const before = device.save();
        device.restore(components[device.name]?.state);
        done.push([device, before]);
      }
    } catch (error) {
      for (const [device, before] of done.reverse()) device.restore(before);
      throw error;
    }
  }

  /** Last made, first disposed of: a device may use those before it. */
  dispose(): void {
    for (const device of [...this].reverse()) device.dispose?.();
  }

  #match(components: Readonly<Record<string, SavedComponent>>): void {
    for (const name of Object.keys(components))
      if (!this.#devices.has(name)) throw new StateError(`${name}: no such device in this machine`);
    for (const { name, stateVersion } of this) {
      const saved = components[name];
      if (saved === undefined) throw new StateError(`${name}: missing from the saved state`);
      if (saved.version !== stateVersion)
        throw new StateError(`${name}.version: ${stateVersion} expected`);
    }
  }
}
