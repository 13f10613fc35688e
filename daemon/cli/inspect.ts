// What xhyvectl tells of the host, the daemon and a VM's inside.

import { ClientError } from "./client.js";
import { type Command, describe, none, one, show } from "./command.js";

const host: Command = {
  arguments: "",
  summary: "this host: accelerators, memory, CPUs",
  operations: ["getHost"],
  async run(context, positionals) {
    none(positionals);
    const info = await context.client.call("getHost", {});
    show(context, info, () => `${describe(info).join("\n")}\n`);
  },
};

const registers: Command = {
  arguments: "VM [VCPU]",
  summary: "the registers of a vCPU of a paused VM",
  operations: ["getVcpuRegisters"],
  async run(context, [vm, vcpu = "0", ...more]) {
    if (vm === undefined || more.length > 0 || !/^[0-9]{1,3}$/.test(vcpu))
      throw new ClientError("name a VM and the number of a vCPU");
    const found = await context.client.call("getVcpuRegisters", { vm, vcpu: Number(vcpu) });
    show(context, found, () => `${describe(found).join("\n")}\n`);
  },
};

const statistics: Command = {
  arguments: "VM",
  summary: "a running VM's counters",
  operations: ["getVmStatistics"],
  async run(context, positionals) {
    const found = await context.client.call("getVmStatistics", { vm: one(positionals) });
    show(context, found, () => `${describe(found).join("\n")}\n`);
  },
};

const metrics: Command = {
  arguments: "",
  summary: "all counters, as Prometheus reads them",
  operations: ["getMetrics"],
  async run({ client, print }, positionals) {
    none(positionals);
    print((await client.bytes("getMetrics", {})).bytes.toString("utf8"));
  },
};

const health: Command = {
  arguments: "",
  summary: "whether the daemon is well, and takes requests to start VMs",
  operations: ["getHealth", "getReadiness"],
  notes: ["It ends with status 1 where it is not."],
  async run(context, positionals) {
    none(positionals);
    await context.client.bytes("getHealth", {});
    await context.client.bytes("getReadiness", {});
    show(context, { healthy: true, ready: true }, () => "healthy and ready\n");
  },
};

const openapi: Command = {
  arguments: "",
  summary: "the API's OpenAPI 3.1 document",
  operations: ["getOpenApi"],
  async run({ client, print }, positionals) {
    none(positionals);
    print(`${JSON.stringify(await client.call("getOpenApi", {}), null, 2)}\n`);
  },
};

export const inspectCommands = { host, statistics, registers, metrics, health, openapi };
