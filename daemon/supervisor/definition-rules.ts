// What a schema cannot say about a definition. Whether images are any good is found out at start, or
// by a dry run, by the VM process, which reads them.
import { Value } from "@sinclair/typebox/value";
import { type FieldProblem, type VmDefinition, VmUuid } from "../../api-schema/index.js";

/** All that is wrong, but for its paths: see paths.ts. */
export const definitionProblems = ({ name }: VmDefinition): FieldProblem[] =>
  Value.Check(VmUuid, name)
    ? [{ in: "body", pointer: "#/name", detail: "must not look like a UUID" }]
    : [];
