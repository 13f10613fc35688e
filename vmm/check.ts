// Everything that would keep a definition from working, as far as it can be known without a machine:
// the same checks as build.ts makes, each whether or not those before it held.
import type { VmDefinition } from "../api-schema/definition.js";
import { asVmError, type VmError } from "../api-schema/errors.js";
import { checkSerial, firmwareFor } from "./build.js";
import { type LockFile, OpenDisks } from "./disks.js";
import { lowMemoryOf } from "./layout.js";
import { openImages } from "./loaders/index.js";
import { type PlacedDevice, placeDevices } from "./slots.js";

export async function faultsOf(definition: VmDefinition, lock: LockFile): Promise<VmError[]> {
  const faults: VmError[] = [];
  const attempt = async (check: () => unknown): Promise<void> => {
    try {
      await check();
    } catch (error) {
      faults.push(asVmError(error));
    }
  };
  let placed: readonly PlacedDevice[] = [];
  await attempt(() => {
    placed = placeDevices(definition.devices);
  });
  await attempt(() => checkSerial(definition, placed));
  await attempt(() => firmwareFor(definition, placed));
  await attempt(() => checkImages(definition));
  for (const device of placed)
    await attempt(async () => (await OpenDisks.open([device], lock)).close());
  return faults;
}

function checkImages({ boot, memory }: VmDefinition): void {
  const images = openImages(boot);
  try {
    images.plan({ memory, low: lowMemoryOf(memory) });
  } finally {
    images.close();
  }
}
