// VMs: their definitions, their lifecycle, and a look inside.

import type { Verb } from "../../../api-schema/daemon-api.js";
import type { VmAction, VmView } from "../../../api-schema/index.js";
import type { OperationId } from "../../../api-schema/operations.js";
import { requireAbsolute } from "../../supervisor/definition-rules.js";
import type { Supervisor } from "../../supervisor/supervisor.js";
import type { Call, Handlers } from "../call.js";

type VmOperation = Extract<
  OperationId,
  | "listVms"
  | "createVm"
  | "getVm"
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
    async ({ path, query, body, signal }: VerbCall): Promise<VmView> => {
      const driver = supervisor.find(path.vm);
      const view = await driver.request(name, body);
      return query.wait === undefined ? view : driver.waitFor(query.wait, query.timeout, signal);
    };

  return {
    listVms: () => ({ vms: supervisor.list().map((driver) => driver.view()) }),
    createVm: ({ body }) => supervisor.create(body).view(),
    getVm: ({ path }) => supervisor.find(path.vm).view(),
    changeVm: ({ path, body, ifMatch }) =>
      supervisor.change(supervisor.find(path.vm), body, ifMatch),
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
    changeMedium: async ({ path, body }) => {
      requireAbsolute("path", body.path);
      return { drives: await supervisor.find(path.vm).changeMedium(path.device, body) };
    },
    getVmStatistics: ({ path }) =>
      supervisor.find(path.vm).connection("be measured").call("statistics", {}),
    getVcpuRegisters: ({ path }) =>
      supervisor
        .find(path.vm)
        .connection("show its registers")
        .call("registers", { vcpu: path.vcpu }),
  };
}
