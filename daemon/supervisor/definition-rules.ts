// What a schema cannot say about a definition. Whether images are any good is found out at start, or
// by a dry run, by the VM process, which reads them.
import { Value } from "@sinclair/typebox/value";
import { type FieldProblem, type VmDefinition, VmUuid } from "../../api-schema/index.js";

/** All that is wrong, but for its paths: see paths.ts. */
export const definitionProblems = ({ name, devices }: VmDefinition): FieldProblem[] => [
  ...(Value.Check(VmUuid, name)
    ? [{ in: "body", pointer: "#/name", detail: "must not look like a UUID" }]
    : []),
  ...devices.flatMap((device, index) =>
    device.type === "virtio-net" && device.network !== undefined && device.backend !== undefined
      ? [{ in: "body", pointer: `#/devices/${index}/backend`, detail: PLUGGED_TWICE }]
      : [],
  ),
];

const PLUGGED_TWICE = "must be left out: `network` says what the card is plugged into";
