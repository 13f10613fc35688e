// VMs: their definitions, their lifecycle, and a look inside.

import type { Verb } from "../../../api-schema/daemon-api.js";
import {
  type CreateVm,
  InvalidRequest,
  type VmAction,
  VmError,
  type VmView,
} from "../../../api-schema/index.js";
import type { OperationId } from "../../../api-schema/operations.js";
import { mergePatch } from "../../merge-patch.js";
import type { Change, Supervisor } from "../../supervisor/supervisor.js";
import { type Call, type Handlers, isRemote, type Principal, Reply } from "../call.js";
import { pageOfVms } from "../page.js";

type VmOperation = Extract<
  OperationId,
  | "listVms"
  | "createVm"
  | "getVm"
  | "replaceVm"
  | "changeVm"
  | "deleteVm"
  | "startVm"
  | "shutdownVm"
  | "stopVm"
  | "killVm"
  | "resetVm"
  | "pauseVm"
  | "resumeVm"
  | "listMedia"
  | "changeMedium"
  | "getVmStatistics"
  | "getVcpuRegisters"
>;

type VerbCall = Pick<Call<"startVm">, "path" | "query" | "signal"> & {
  readonly body: { readonly timeout?: number };
};

export function vmHandlers(supervisor: Supervisor): Pick<Handlers, VmOperation> {
  const verb =
    (name: Verb & VmAction) =>
    async (call: VerbCall): Promise<VmView> => {
      const { wait, timeout } = call.query;
      const driver = supervisor.find(call.path.vm);
      const view = await driver.request(name, call.body);
      return wait === undefined ? view : driver.waitFor(wait, timeout, call.signal);
    };

  return {
    listVms: ({ query }) => pageOfVms(supervisor.list(), query),
    createVm: async ({ body, query, principal, attempt }) => {
      if (query.dryRun === true)
        return new Reply(200, await supervisor.wouldCreate(body, by(principal)));
      const uuid = body.uuid ?? attempt?.uuid;
      const made = attempt?.again === true && uuid !== undefined && supervisor.lookUp(uuid);
      if (made) return made.view(); // by a daemon that did not live to say so
      return supervisor.create(uuid === undefined ? body : { ...body, uuid }, by(principal)).view();
    },
    getVm: (call) => {
      const { timeout, generation, statusGeneration } = call.query;
      const driver = supervisor.find(call.path.vm);
      if (generation === undefined && statusGeneration === undefined) return driver.view();
      const seen = {
        ...(generation === undefined ? {} : { generation }),
        ...(statusGeneration === undefined ? {} : { status: statusGeneration }),
      };
      return driver.waitForChange(seen, timeout, call.signal);
    },
    replaceVm: async ({ path, query, body, ifMatch, principal }) => {
      const author = by(principal, ifMatch);
      const driver = supervisor.lookUp(path.vm);
      if (driver !== undefined)
        return query.dryRun === true
          ? supervisor.wouldChange(driver, { uuid: driver.uuid, ...body }, author)
          : supervisor.replace(driver, body, author);
      if (ifMatch !== undefined) throw new VmError("VM_NOT_FOUND", [path.vm]);
      requireNamed(path.vm, body);
      if (query.dryRun === true) return supervisor.wouldCreate(body, author);
      return new Reply(201, supervisor.create(body, author).view());
    },
    changeVm: ({ path, query, body, ifMatch, principal }) => {
      const driver = supervisor.find(path.vm);
      const author = by(principal, ifMatch);
      if (query.dryRun !== true) return supervisor.change(driver, body, author);
      const wanted = mergePatch({ ...driver.row.definition, power: driver.row.power }, body);
      return supervisor.wouldChange(driver, wanted as Record<string, unknown>, author);
    },
    deleteVm: async ({ path, ifMatch }) => {
      await supervisor.remove(supervisor.find(path.vm), ifMatch);
      return undefined;
    },
    startVm: verb("start"),
    shutdownVm: verb("shutdown"),
    stopVm: verb("stop"),
    killVm: verb("kill"),
    resetVm: verb("reset"),
    pauseVm: verb("pause"),
    resumeVm: verb("resume"),
    listMedia: async ({ path }) => ({ drives: await supervisor.find(path.vm).drives() }),
    changeMedium: async ({ path, body }) => ({
      drives: await supervisor.find(path.vm).changeMedium(path.device, body),
    }),
    getVmStatistics: ({ path }) =>
      supervisor.find(path.vm).connection("be measured").call("statistics", {}),
    getVcpuRegisters: ({ path }) =>
      supervisor
        .find(path.vm)
        .connection("show its registers")
        .call("registers", { vcpu: path.vcpu }),
  };
}

const by = (principal: Principal, ifMatch?: number): Change => ({
  remote: isRemote(principal),
  ifMatch,
});

/** What is made under a path must be found under it. */
function requireNamed(vm: string, { name, uuid }: CreateVm): void {
  if (vm === name || vm.toLowerCase() === uuid?.toLowerCase()) return;
  const detail = `must be ${vm}, as the path says`;
  throw new InvalidRequest([{ in: "body", pointer: "#/name", detail }]);
}
