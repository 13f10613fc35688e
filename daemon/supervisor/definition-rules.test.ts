import { expect, it } from "vitest";
import { parse, VmDefinition } from "../../api-schema/index.js";
import { definitionProblems } from "./definition-rules.js";

const define = (changes: Partial<VmDefinition>): VmDefinition =>
  parse(VmDefinition, {
    name: "vm",
    uuid: "01234567-89ab-cdef-0123-456789abcdef",
    boot: { kind: "linux", kernel: "/kernel" },
    ...changes,
  });

it.each(["soft", "hvf"] as const)("cpuModel host is refused with %s", (accelerator) => {
  expect(definitionProblems(define({ accelerator, cpuModel: "host" }))).toEqual([
    {
      in: "body",
      pointer: "#/cpuModel",
      detail: `must be stable: accelerator ${accelerator} has only the stable model; host needs accelerator kvm (or auto that takes it)`,
    },
  ]);
});

it.each(["kvm", "auto"] as const)("cpuModel host may be asked for with %s", (accelerator) => {
  expect(definitionProblems(define({ accelerator, cpuModel: "host" }))).toEqual([]);
});
