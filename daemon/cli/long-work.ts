// What xhyvectl does that takes a while: clones, the host's shutdown, and operations as such.
import { resolve } from "node:path";
import type { LongOperation } from "../../api-schema/index.js";
import { type Client, ClientError } from "./client.js";
import type { Command, Context } from "./commands.js";
import { type Cell, table } from "./table.js";

/** An answer comes at the latest after so many seconds; then it is asked again. */
const ASK_SECONDS = 30;
const DEFAULT_SHUTDOWN = "120";

const percent = ({ done, total }: LongOperation["progress"]): string =>
  total === 0 ? "" : `${Math.floor((100 * done) / total)} %`;

/** Throws what it failed with. */
async function finished(client: Client, begun: LongOperation): Promise<LongOperation> {
  let operation = begun;
  while (operation.state === "running") {
    if (process.stderr.isTTY) process.stderr.write(`\r${percent(operation.progress)}  `);
    const timeout = process.stderr.isTTY ? 1 : ASK_SECONDS;
    operation = await client.call("getOperation", { operation: operation.id, timeout });
  }
  if (process.stderr.isTTY) process.stderr.write("\r       \r");
  if (operation.state === "failed") throw new ClientError(operation.error?.detail ?? "it failed");
  if (operation.state === "cancelled") throw new ClientError("it was cancelled");
  return operation;
}

function tell({ json, print }: Context, value: unknown, people: string): void {
  print(json ? `${JSON.stringify(value, null, 2)}\n` : people);
}

const secondsOf = (given: unknown): number => {
  const text = typeof given === "string" ? given : DEFAULT_SHUTDOWN;
  if (!/^[0-9]{1,5}$/.test(text)) throw new ClientError("--timeout takes seconds");
  return Number(text);
};

async function shutDownAll(context: Context, timeout: number): Promise<void> {
  const begun = await context.client.call("shutDownHost", { body: { timeout } });
  const done = await finished(context.client, begun);
  tell(context, done, `${String(done.result?.vms ?? 0)} VMs are off\n`);
}

/** `--all`: every VM, for the host's shutdown; else as the verb. */
export const shutdownCommand = (verb: Command): Command => ({
  ...verb,
  arguments: "VM | --all",
  options: { ...verb.options, all: { type: "boolean" } },
  details: [
    ...(verb.details ?? []),
    "--all                every VM, since the host shuts down: in the order opposite to that of",
    "                     starting, --timeout seconds for all together (120)",
  ],
  async run(context, positionals, values) {
    if (values.all !== true) return verb.run(context, positionals, values);
    if (positionals.length > 0) throw new ClientError("--all takes no VM");
    await shutDownAll(context, secondsOf(values.timeout));
  },
});

export const guard: Command = {
  arguments: "",
  summary: "stay until SIGTERM, then shut all VMs down: for the host's shutdown",
  options: { timeout: { type: "string" } },
  details: [
    "--timeout SECONDS    for all VMs together (120)",
    "",
    "A service manager ends the daemon when it is upgraded, and its VMs go on; it ends this",
    "command when the host shuts down.",
  ],
  async run(context, _positionals, values) {
    const timeout = secondsOf(values.timeout);
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
  options: { disk: { type: "string", multiple: true } },
  details: [
    "--disk SLOT=FILE     where the copy of the disk in this slot goes; once for each disk",
    "",
    "xhyvectl clone golden web2 --disk 3:0=/srv/vms/web2.img",
  ],
  async run(context, positionals, values) {
    const [vm, name] = positionals;
    if (vm === undefined || name === undefined || positionals.length > 2)
      throw new ClientError("name a VM and its clone");
    const given = (values as { readonly disk?: readonly string[] }).disk ?? [];
    const disks = Object.fromEntries(given.map(diskOf));
    const begun = await context.client.call("cloneVm", { vm, body: { name, disks } });
    const done = await finished(context.client, begun);
    tell(context, done, `${name} is defined (${String(done.result?.vm)})\n`);
  },
};

function diskOf(option: string): [slot: string, path: string] {
  const at = option.indexOf("=");
  if (at <= 0) throw new ClientError("--disk takes SLOT=FILE");
  return [option.slice(0, at), resolve(option.slice(at + 1))];
}

export const listOperations: Command = {
  arguments: "",
  summary: "long work: what is under way, and what has ended",
  async run(context) {
    const { operations } = await context.client.call("listOperations", {});
    const rows = operations.map((one): Cell[] => [
      { text: one.id },
      { text: one.kind },
      { text: one.state },
      { text: percent(one.progress) },
      { text: one.error?.detail ?? "" },
    ]);
    const text =
      operations.length === 0
        ? "no operations\n"
        : table(["ID", "KIND", "STATE", "DONE", "WHY"], rows, context.colour);
    tell(context, operations, text);
  },
};

export const cancel: Command = {
  arguments: "OPERATION",
  summary: "give up an operation, and undo what it has done",
  async run(context, positionals) {
    const [operation] = positionals;
    if (operation === undefined || positionals.length > 1)
      throw new ClientError("name one operation");
    const ended = await context.client.call("cancelOperation", { operation });
    tell(context, ended, `${ended.kind} is ${ended.state}\n`);
  },
};
