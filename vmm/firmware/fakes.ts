// A machine for tests of the firmware tables.
import { pciMem64For } from "../layout.js";
import type { FirmwareConfig } from "./config.js";

export const config = (changes: Partial<FirmwareConfig> = {}): FirmwareConfig => ({
  cpus: 2,
  memory: 2 ** 30,
  uuid: "01234567-89ab-cdef-0123-456789abcdef",
  pciMemory64: pciMem64For(2 ** 30),
  lpcSlot: 31,
  gsiOf: (slot, pin) => 16 + ((slot + pin) & 7),
  pirqOf: (slot, pin) => (slot + pin) & 7,
  ...changes,
});
