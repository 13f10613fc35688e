// The native core for the VM process. Devices do not import this: they are handed a DeviceHost.
import { loadAddon, type VmmAddon } from "./addon.js";
import { NativeBackedMachine } from "./machine.js";
import type { AcceleratorInfo, Machine, MachineOptions } from "./types.js";

export type * from "./types.js";

let loaded: VmmAddon | undefined;

const addon = (): VmmAddon => {
  loaded ??= loadAddon("vmm") as VmmAddon;
  return loaded;
};

/** Throws an Error in words for the operator where the host or the options do not allow it. */
export const createMachine = (options: MachineOptions): Machine =>
  new NativeBackedMachine(addon(), options);

/** Every accelerator, in the order in which `auto` prefers them. */
export const acceleratorInfo = (): AcceleratorInfo[] => addon().acceleratorInfo();

/** What `auto` takes on this host, and why: usable hardware may be slower than software. */
export const automaticAccelerator = (): AcceleratorInfo => addon().automaticAccelerator();
