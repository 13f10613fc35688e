// Everything that would keep a definition from working, as far as it can be known without a machine:
// the same checks as build.ts makes, each whether or not those before it held.
import type { VmDefinition } from "../api-schema/definition.js";
import { asVmError, type VmError } from "../api-schema/errors.js";
import { checkSerial, firmwareFor } from "./build.js";
import { OpenDisks } from "./disks.js";
import type { HostFiles } from "./host-files.js";
import { lowMemoryOf } from "./layout.js";
import { imagesFrom, openImages } from "./loaders/index.js";
import { checkNetwork, isCard } from "./networks.js";
import { type PlacedDevice, placeDevices } from "./slots.js";

export async function faultsOf(definition: VmDefinition, files: HostFiles): Promise<VmError[]> {
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
  await attempt(() => checkImages(definition, files));
  for (const device of placed)
    await attempt(async () => (await OpenDisks.open([device], files)).close());
  for (const card of definition.devices.filter(isCard)) await attempt(() => checkNetwork(card));
  return faults;
}

function checkImages({ boot, memory }: VmDefinition, files: HostFiles): void {
  const images = openImages(boot, imagesFrom(files));
  try {
    images.plan({ memory, low: lowMemoryOf(memory) });
  } finally {
    images.close();
  }
}
