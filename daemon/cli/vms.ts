// What xhyvectl does with VMs as a whole: define, list, show, change, tell, wait, delete.
import { resolve } from "node:path";
import { stringify } from "yaml";
import type { DefinitionDraft } from "../../api-schema/client.js";
import { vmPowers } from "../../api-schema/daemon-api.js";
import { type VmPower, type VmView, WaitState } from "../../api-schema/index.js";
import { allPages, type Client, ClientError } from "./client.js";
import {
  type Command,
  type Context,
  describe,
  none,
  type Options,
  one,
  seconds,
  show,
  showTable,
  text,
  type Values,
} from "./command.js";
import { documentsIn } from "./documents.js";
import { patchIn, patching, patchNote } from "./patch.js";
import { bytes, type Cell, type colours, parseBytes } from "./table.js";

const STATE_COLOURS: Readonly<Partial<Record<VmPower, keyof typeof colours>>> = {
  running: "green",
  starting: "yellow",
  stopping: "yellow",
  paused: "yellow",
  failed: "red",
};

const why = ({ status }: VmView): string =>
  [status.reason, status.signal, status.detail].filter((part) => part !== undefined).join(", ");

export const stateCell = ({ status: { state } }: VmView): Cell => {
  const colour = STATE_COLOURS[state];
  return colour === undefined ? { text: state } : { text: state, colour };
};

const saying = (vm: VmView): string =>
  `${vm.name} is ${vm.status.state}${why(vm) === "" ? "" : ` (${why(vm)})`}\n`;

/** All of them, over as many pages as there are. */
export async function allVms(
  client: Client,
  filter: { name?: string; state?: string; labels?: string } = {},
): Promise<VmView[]> {
  return allPages(
    (cursor) => client.call("listVms", { ...filter, ...cursor }),
    ({ vms }) => vms,
  );
}

const machine: Options = {
  file: {
    type: "string",
    short: "f",
    value: "FILE",
    help: "a definition (YAML or JSON); - is standard input",
  },
  kernel: {
    type: "string",
    short: "k",
    value: "FILE",
    help: "a Linux kernel (bzImage or vmlinux)",
  },
  initrd: { type: "string", short: "i", value: "FILE", help: "its initial RAM file system" },
  cmdline: { type: "string", short: "a", value: "TEXT", help: "its command line" },
  memory: { type: "string", short: "m", value: "SIZE", help: "such as 512M or 2G (256M)" },
  cpus: { type: "string", short: "c", value: "N", help: "1 to 64 (1)" },
};

function definitionOf(name: string, values: Values): DefinitionDraft {
  const file = text(values, "file");
  if (file !== undefined) {
    const [definition, ...more] = documentsIn(file);
    if (definition === undefined || more.length > 0)
      throw new ClientError(`${file} must hold one document; 'apply' takes several`);
    return { ...(definition as DefinitionDraft), name };
  }
  const kernel = text(values, "kernel");
  if (kernel === undefined)
    throw new ClientError("create needs --kernel FILE, or a definition with --file");
  const memory = parseBytes(text(values, "memory") ?? "256M");
  if (memory === undefined) throw new ClientError("--memory takes a size such as 512M or 2G");
  const initrd = text(values, "initrd");
  const cmdline = text(values, "cmdline");
  return {
    name,
    memory,
    cpus: Number(text(values, "cpus") ?? 1),
    boot: {
      kind: "linux",
      kernel: resolve(kernel),
      ...(initrd === undefined ? {} : { initrd: resolve(initrd) }),
      ...(cmdline === undefined ? {} : { cmdline }),
    },
  };
}

const create: Command = {
  arguments: "NAME",
  summary: "define a VM",
  operations: ["createVm"],
  options: {
    ...machine,
    "dry-run": { type: "boolean", help: "say all that would be wrong, and define nothing" },
  },
  examples: ['xhyvectl create web -k vmlinuz -i initrd.gz -a "console=ttyS0" -m 512M -c 2'],
  async run(context, positionals, values) {
    const dryRun = values["dry-run"] === true;
    const body = definitionOf(one(positionals), values);
    const vm = await context.client.call("createVm", { body, ...(dryRun && { dryRun }) });
    const what = dryRun ? "could be defined" : `is defined (${vm.uuid})`;
    show(context, vm, () => `${vm.name} ${what}\n`);
  },
};

const list: Command = {
  arguments: "",
  summary: "all VMs, or some",
  operations: ["listVms"],
  options: {
    name: { type: "string", value: "PATTERN", help: "of these names; * stands for any characters" },
    state: {
      type: "string",
      value: "STATE",
      help: "in one of these, with commas between",
      choices: vmPowers,
    },
    labels: {
      type: "string",
      short: "l",
      value: "LABELS",
      help: "with all of these: KEY=VALUE or KEY, with commas between",
    },
    names: { type: "boolean", short: "q", help: "their names alone, one a line" },
  },
  async run(context, positionals, values) {
    none(positionals);
    const given = (["name", "state", "labels"] as const).flatMap((name) => {
      const value = text(values, name);
      return value === undefined ? [] : [[name, value] as const];
    });
    const vms = await allVms(context.client, Object.fromEntries(given));
    if (values.names === true) return context.print(vms.map(({ name }) => `${name}\n`).join(""));
    const rows = vms.map((vm): Cell[] => [
      { text: vm.name },
      stateCell(vm),
      { text: String(vm.definition.cpus) },
      { text: bytes(vm.definition.memory) },
      { text: String(vm.status.pid ?? "-") },
      { text: why(vm) },
    ]);
    showTable(context, vms, ["NAME", "STATE", "CPUS", "MEMORY", "PID", "REASON"], {
      rows,
      none: "no VMs; 'xhyvectl create --help' says how to define one",
    });
  },
};

const showOne: Command = {
  arguments: "VM",
  summary: "one VM: definition, state, statistics",
  operations: ["getVm", "getVmStatistics"],
  async run(context, positionals) {
    const vm = await context.client.call("getVm", { vm: one(positionals) });
    const runs = vm.status.state === "running" || vm.status.state === "paused";
    const statistics = runs
      ? await context.client.call("getVmStatistics", { vm: vm.uuid })
      : undefined;
    const whole = statistics === undefined ? vm : { ...vm, statistics };
    show(context, whole, () => `${describe(whole).join("\n")}\n`);
  },
};

const FORMS = ["yaml", "json"] as const;

const get: Command = {
  arguments: "VM",
  summary: "a VM's definition, as apply takes it",
  operations: ["getVm"],
  options: {
    output: {
      type: "string",
      short: "o",
      value: "FORM",
      help: "yaml (the default) or json",
      choices: FORMS,
    },
  },
  examples: [
    "xhyvectl get web -o yaml > web.yaml && $EDITOR web.yaml && xhyvectl apply -f web.yaml",
  ],
  async run(context, positionals, values) {
    const form = context.json ? "json" : (text(values, "output") ?? "yaml");
    if (!FORMS.some((known) => known === form))
      throw new ClientError(`--output takes ${FORMS.join(" or ")}`);
    const vm = await context.client.call("getVm", { vm: one(positionals) });
    const wanted = { ...vm.definition, power: vm.power };
    context.print(form === "yaml" ? stringify(wanted) : `${JSON.stringify(wanted, null, 2)}\n`);
  },
};

const change: Command = {
  arguments: "VM [FIELD=VALUE …]",
  summary: "change fields of a VM's definition",
  operations: ["changeVm"],
  options: patching,
  notes: [patchNote("restart.policy")],
  examples: ["xhyvectl change web cpus=4 labels.tier=front power=running"],
  async run(context, positionals, values) {
    const { name: vm, ...patch } = patchIn(positionals, values, "VM");
    const changed = await context.client.call("changeVm", { vm, ...patch });
    show(context, changed, () => `${changed.name} is at generation ${changed.generation}\n`);
  },
};

const stateNamed = (name: string): WaitState => {
  const state = WaitState.enum.find((known: string) => known === name);
  if (state === undefined) throw new ClientError(`a state is one of ${WaitState.enum.join(", ")}`);
  return state;
};

type VerbOperation =
  | "startVm"
  | "shutdownVm"
  | "killVm"
  | "stopVm"
  | "resetVm"
  | "pauseVm"
  | "resumeVm";

const waiting: Options = {
  wait: {
    type: "string",
    value: "STATE",
    help: "answer when the VM is in this state, or `ready`",
    choices: WaitState.enum,
  },
  timeout: { type: "string", value: "SECONDS", help: "wait no longer than this (60)" },
};

export const verb = (operation: VerbOperation, summary: string): Command => ({
  arguments: "VM",
  summary,
  operations: [operation],
  options: waiting,
  async run(context, positionals, values) {
    const wait = text(values, "wait");
    const vm = await context.client.call(operation, {
      vm: one(positionals),
      ...(wait === undefined ? {} : { wait: stateNamed(wait) }),
      timeout: seconds(values, 60),
    });
    show(context, vm, () => saying(vm));
  },
});

const wait: Command = {
  arguments: "VM STATE",
  summary: "wait until a VM is in a state, or `ready`, or no longer there: `deleted`",
  operations: ["getVm"],
  options: {
    timeout: { type: "string", value: "SECONDS", help: "wait no longer than this (60)" },
  },
  notes: ["It ends with status 1 where the time is over first."],
  async run(context, [vm, state, ...more], values) {
    if (vm === undefined || state === undefined || more.length > 0)
      throw new ClientError("name a VM and a state");
    const reached = state === "deleted" ? () => false : isIn(stateNamed(state));
    const last = await waitFor(context, { vm, reached, limit: seconds(values, 60) });
    if (last === undefined && state === "deleted")
      return show(context, { deleted: vm }, () => `${vm} is deleted\n`);
    if (last === undefined || !reached(last))
      throw new ClientError(`${vm} is ${last?.status.state ?? "deleted"}, not ${state}`);
    show(context, last, () => saying(last));
  },
};

const isIn =
  (state: WaitState) =>
  ({ status }: VmView): boolean =>
    state === "ready" ? status.ready === true : status.state === state;

interface Awaited {
  readonly vm: string;
  reached(vm: VmView): boolean;
  /** Seconds. */
  readonly limit: number;
}

/** What it is at the end; undefined: it has been deleted. */
async function waitFor({ client }: Context, { vm, reached, limit }: Awaited) {
  const deadline = Date.now() + limit * 1000;
  try {
    let view = await client.call("getVm", { vm });
    while (!reached(view) && Date.now() < deadline) {
      const timeout = Math.min(3600, Math.ceil((deadline - Date.now()) / 1000));
      const statusGeneration = view.status.generation;
      const seen = { statusGeneration, generation: view.generation };
      view = await client.call("getVm", { vm: view.uuid, ...seen, timeout });
    }
    return view;
  } catch (error) {
    if (error instanceof ClientError && error.problem?.code === "VM_NOT_FOUND") return undefined;
    throw error;
  }
}

const remove: Command = {
  arguments: "VM",
  summary: "delete a VM that is off",
  operations: ["deleteVm"],
  async run(context, positionals) {
    const vm = one(positionals);
    await context.client.call("deleteVm", { vm });
    show(context, { deleted: vm }, () => `${vm} is deleted\n`);
  },
};

export const vmCommands = { create, list, show: showOne, get, change, wait, delete: remove };
