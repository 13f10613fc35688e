// What only administrators are shown of a VM: what its guest's cloud-init is told may hold passwords.
import type { VmView } from "../../api-schema/index.js";
import type { Scope } from "../../api-schema/operations.js";
import { Reply } from "./call.js";

/** The answer as a client of this scope may see it. */
export function shownTo(scope: Scope, outcome: unknown): unknown {
  if (scope === "admin" || typeof outcome !== "object" || outcome === null) return outcome;
  if (outcome instanceof Reply) return new Reply(outcome.status, shownTo(scope, outcome.body));
  if (isVm(outcome)) return withoutSecrets(outcome);
  if (!("vms" in outcome) || !Array.isArray(outcome.vms)) return outcome;
  return { ...outcome, vms: outcome.vms.map((vm: VmView) => withoutSecrets(vm)) };
}

const isVm = (value: object): value is VmView => "definition" in value && "status" in value;

/** The same object where there is nothing to hide: its text is kept. */
function withoutSecrets(vm: VmView): VmView {
  const { cloudInit } = vm.definition;
  if (cloudInit === undefined) return vm;
  const { userData: _, metaData: __, networkConfig: ___, ...open } = cloudInit;
  return { ...vm, definition: { ...vm.definition, cloudInit: open } };
}
