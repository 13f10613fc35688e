// What a schema cannot say about a definition. Whether images are any good is found out at start, or
// by a dry run, by the VM process, which reads them.
import { Value } from "@sinclair/typebox/value";
import {
  cpuModelFault,
  type FieldProblem,
  forwardFault,
  type PciDevice,
  type VmDefinition,
  type VmError,
  VmUuid,
} from "../../api-schema/index.js";
import { cardAddresses, macTakenBy, macTakenWithin } from "../../api-schema/mac-addresses.js";

/** All that is wrong, but for its paths: see paths.ts. */
export const definitionProblems = (definition: VmDefinition): FieldProblem[] => [
  ...nameProblems(definition),
  ...cpuModelProblems(definition),
  ...definition.devices.flatMap((device, index) =>
    device.type === "virtio-net" && device.network !== undefined && device.backend !== undefined
      ? [{ in: "body", pointer: `#/devices/${index}/backend`, detail: PLUGGED_TWICE }]
      : [],
  ),
  ...definition.devices.flatMap(forwardProblems),
];

const nameProblems = ({ name }: VmDefinition): FieldProblem[] =>
  Value.Check(VmUuid, name)
    ? [{ in: "body", pointer: "#/name", detail: "must not look like a UUID" }]
    : [];

function cpuModelProblems(definition: VmDefinition): FieldProblem[] {
  const why = cpuModelFault(definition);
  if (why === undefined) return [];
  const detail = `must be stable: ${why}; host needs accelerator kvm (or auto that takes it)`;
  return [{ in: "body", pointer: "#/cpuModel", detail }];
}

function forwardProblems(device: PciDevice, index: number): FieldProblem[] {
  if (device.type !== "virtio-net" || device.backend?.kind !== "user") return [];
  const wrong = forwardFault(device.backend.forwards ?? []);
  if (wrong === undefined) return [];
  const pointer = `#/devices/${index}/backend/forwards/${wrong.index}`;
  return [{ in: "body", pointer, detail: `cannot be: ${wrong.why}` }];
}

const PLUGGED_TWICE = "must be left out: `network` says what the card is plugged into";

const addressesOf = (definition: VmDefinition): string =>
  cardAddresses(definition)
    .map(({ slot, mac }) => `${slot} ${mac}`)
    .join();

/**
 * NETWORK_MAC_TAKEN of cards that have another card's address, of this VM or another one, on or off:
 * they could be on one network at any time. A change that leaves the addresses as they were is no
 * reason to look (`before`: a registry of an earlier release may hold such).
 */
export function takenAddresses(
  definition: VmDefinition,
  others: readonly VmDefinition[],
  before?: VmDefinition,
): VmError[] {
  if (cardAddresses(definition).length === 0) return [];
  if (before !== undefined && addressesOf(before) === addressesOf(definition)) return [];
  const within = macTakenWithin(definition);
  return [
    ...(within ? [within] : []),
    ...others.flatMap((one) => macTakenBy(definition, one) ?? []),
  ];
}
