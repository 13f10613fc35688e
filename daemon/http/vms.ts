// The routes of VMs. Handlers translate: parse, call one operation of the supervisor, answer.
import type { FastifyInstance } from "fastify";
import {
  ChangeVm,
  CreateVm,
  NoBody,
  ShutdownBody,
  Statistics,
  VcpuPath,
  VcpuRegisters,
  VmList,
  VmPath,
  type VmPower,
  VmView,
  verbs,
  WaitQuery,
} from "../../api-schema/index.js";
import type { Supervisor } from "../supervisor/supervisor.js";

interface Params {
  readonly vm: string;
}

export async function vmRoutes(
  app: FastifyInstance,
  { supervisor }: { supervisor: Supervisor },
): Promise<void> {
  app.get("/vms", { schema: { response: { 200: VmList } } }, async () => ({
    vms: supervisor.list().map((driver) => driver.view()),
  }));

  app.post<{ Body: CreateVm }>(
    "/vms",
    { schema: { body: CreateVm, response: { 201: VmView } } },
    async (request, reply) => {
      const driver = supervisor.create(request.body);
      return reply.code(201).header("location", `/v1/vms/${driver.uuid}`).send(driver.view());
    },
  );

  app.get<{ Params: Params }>(
    "/vms/:vm",
    { schema: { params: VmPath, response: { 200: VmView } } },
    async (request) => supervisor.find(request.params.vm).view(),
  );

  app.patch<{ Params: Params; Body: ChangeVm }>(
    "/vms/:vm",
    { schema: { params: VmPath, body: ChangeVm, response: { 200: VmView } } },
    async (request) => supervisor.change(supervisor.find(request.params.vm), request.body),
  );

  app.delete<{ Params: Params }>(
    "/vms/:vm",
    { schema: { params: VmPath } },
    async (request, reply) => {
      await supervisor.remove(supervisor.find(request.params.vm));
      return reply.code(204).send();
    },
  );

  for (const verb of verbs)
    app.post<{
      Params: Params;
      Body: { timeout?: number };
      Querystring: { wait?: VmPower; timeout: number };
    }>(
      `/vms/:vm/${verb}`,
      {
        schema: {
          params: VmPath,
          querystring: WaitQuery,
          body: verb === "shutdown" ? ShutdownBody : NoBody,
          response: { 200: VmView },
        },
      },
      async (request) => {
        const driver = supervisor.find(request.params.vm);
        const view = await driver.request(verb, request.body);
        const { wait, timeout } = request.query;
        return wait === undefined ? view : driver.waitFor(wait, timeout);
      },
    );

  app.get<{ Params: Params }>(
    "/vms/:vm/statistics",
    { schema: { params: VmPath, response: { 200: Statistics } } },
    async (request) =>
      supervisor.find(request.params.vm).connection("be measured").call("statistics", {}),
  );

  app.get<{ Params: Params & { vcpu: number } }>(
    "/vms/:vm/vcpus/:vcpu",
    { schema: { params: VcpuPath, response: { 200: VcpuRegisters } } },
    async (request) =>
      supervisor
        .find(request.params.vm)
        .connection("show its registers")
        .call("registers", { vcpu: request.params.vcpu }),
  );
}
