// What xhyvectl does that takes a while: clones, the host's shutdown, and operations as such.
import { resolve } from "node:path";
import { ClientError } from "./client.js";
import {
  type Command,
  type Context,
  none,
  one,
  seconds,
  show,
  showTable,
  texts,
} from "./command.js";
import { finished, percent } from "./progress.js";
import type { Cell } from "./table.js";

const SHUTDOWN_SECONDS = 120;

async function shutDownAll(context: Context, timeout: number): Promise<void> {
  const begun = await context.client.call("shutDownHost", { body: { timeout } });
  const done = await finished(context.client, begun);
  show(context, done, () => `${String(done.result?.vms ?? 0)} VMs are off\n`);
}

/** `--all`: every VM, for the host's shutdown; else as the verb. */
export const shutdownCommand = (verb: Command): Command => ({
  ...verb,
  arguments: "VM | --all",
  operations: [...verb.operations, "shutDownHost"],
  options: {
    ...verb.options,
    all: {
      type: "boolean",
      help: "every VM, since the host shuts down: in the order opposite to that of starting, --timeout seconds for all together (120)",
    },
  },
  async run(context, positionals, values) {
    if (values.all !== true) return verb.run(context, positionals, values);
    if (positionals.length > 0) throw new ClientError("--all takes no VM");
    await shutDownAll(context, seconds(values, SHUTDOWN_SECONDS));
  },
});

export const guard: Command = {
  arguments: "",
  summary: "stay until SIGTERM, then shut all VMs down: for the host's shutdown",
  operations: ["shutDownHost"],
  options: {
    timeout: { type: "string", value: "SECONDS", help: "for all VMs together (120)" },
  },
  notes: [
    "A service manager ends the daemon when it is upgraded, and its VMs go on; it ends this command when the host shuts down.",
  ],
  async run(context, positionals, values) {
    none(positionals);
    const timeout = seconds(values, SHUTDOWN_SECONDS);
    const told = new Promise((resolved) => process.once("SIGTERM", resolved));
    await context.client.call("listVms", {}); // says at once where there is no daemon
    process.stderr.write("the host's shutdown is awaited\n");
    const stay = setInterval(() => {}, 2 ** 30);
    await told;
    clearInterval(stay);
    await shutDownAll(context, timeout);
  },
};

export const clone: Command = {
  arguments: "VM NAME",
  summary: "another VM of one that is off, with copies of its disks",
  operations: ["cloneVm", "getOperation"],
  options: {
    disk: {
      type: "string",
      multiple: true,
      value: "SLOT[-PORT]=FILE",
      help: "where the copy of the disk in this slot goes (on that port of an ahci); once for each disk",
    },
  },
  examples: ["xhyvectl clone golden web2 --disk 3:0=/srv/vms/web2.img"],
  async run(context, positionals, values) {
    const [vm, name] = positionals;
    if (vm === undefined || name === undefined || positionals.length > 2)
      throw new ClientError("name a VM and its clone");
    const disks = Object.fromEntries(texts(values, "disk").map(diskOf));
    const begun = await context.client.call("cloneVm", { vm, body: { name, disks } });
    const done = await finished(context.client, begun);
    show(context, done, () => `${name} is defined (${String(done.result?.vm)})\n`);
  },
};

function diskOf(option: string): [slot: string, path: string] {
  const at = option.indexOf("=");
  if (at <= 0) throw new ClientError("--disk takes SLOT[-PORT]=FILE");
  return [option.slice(0, at), resolve(option.slice(at + 1))];
}

export const listOperations: Command = {
  arguments: "",
  summary: "long work: what is under way, and what has ended",
  operations: ["listOperations"],
  async run(context, positionals) {
    none(positionals);
    const { operations } = await context.client.call("listOperations", {});
    const rows = operations.map((one): Cell[] => [
      { text: one.id },
      { text: one.kind },
      { text: one.state },
      { text: percent(one.progress) },
      { text: one.error?.detail ?? "" },
    ]);
    showTable(context, operations, ["ID", "KIND", "STATE", "DONE", "WHY"], {
      rows,
      none: "no operations",
    });
  },
};

export const cancel: Command = {
  arguments: "OPERATION",
  summary: "give up an operation, and undo what it has done",
  operations: ["cancelOperation"],
  async run(context, positionals) {
    const operation = one(positionals, "operation");
    const ended = await context.client.call("cancelOperation", { operation });
    show(context, ended, () => `${ended.kind} is ${ended.state}\n`);
  },
};
