// The host bridge: an identity that guests look for at 0:0, with a root port's capability.
import { PciFunction } from "../pci/function.js";

const CLASS_HOST_BRIDGE = 0x060000;

/** `hostbridge` is the original's own; `amd_hostbridge` is for guests that know only that one. */
export const HOST_BRIDGES = {
  hostbridge: { vendor: 0x1275, device: 0x1275 },
  amd_hostbridge: { vendor: 0x1022, device: 0x7432 },
} as const;
export type HostBridgeKind = keyof typeof HOST_BRIDGES;

/** `name` tells several apart in saved state: "hostbridge0". */
export const hostBridge = (name: string, kind: HostBridgeKind = "hostbridge"): PciFunction =>
  new PciFunction({
    name,
    ...HOST_BRIDGES[kind],
    classCode: CLASS_HOST_BRIDGE,
    express: "root-port",
  });
