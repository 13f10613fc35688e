// What a definition may ask of a CPU before anybody has looked at the host.
import type { VmDefinition } from "./definition.js";

/** Accelerators that can show a guest the host's CPU; which one `auto` takes is known at the start. */
const SHOW_HOST: ReadonlySet<VmDefinition["accelerator"]> = new Set(["kvm", "auto"]);

/** Why the accelerator that a definition names has not the CPU model that it names; else undefined. */
export const cpuModelFault = ({
  accelerator,
  cpuModel,
}: Pick<VmDefinition, "accelerator" | "cpuModel">): string | undefined =>
  cpuModel === "host" && !SHOW_HOST.has(accelerator)
    ? `accelerator ${accelerator} has only the stable model`
    : undefined;
