// What xhyvectl can do: each command a name, its arguments, and one function.
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import type { ParseArgsConfig } from "node:util";
import type { DefinitionDraft } from "../../api-schema/client.js";
import { type Drive, type VmPower, type VmView, WaitState } from "../../api-schema/index.js";
import { type Client, ClientError } from "./client.js";
import { attachConsole, escapeByte, followConsole } from "./console.js";
import { cancel, clone, guard, listOperations, shutdownCommand } from "./long-work.js";
import { capture, listNetworks, setLink } from "./networks.js";
import { bytes, type Cell, type colours, parseBytes, table } from "./table.js";
import { token } from "./token.js";

export interface Context {
  readonly client: Client;
  readonly json: boolean;
  readonly colour: boolean;
  readonly print: (text: string) => void;
}

type Values = Readonly<Record<string, string | boolean | undefined>>;

export interface Command {
  readonly arguments: string;
  readonly summary: string;
  readonly options?: NonNullable<ParseArgsConfig["options"]>;
  /** Lines for --help, of the options and of examples. */
  readonly details?: readonly string[];
  run(context: Context, positionals: readonly string[], values: Values): Promise<void>;
}

const STATE_COLOURS: Readonly<Partial<Record<VmPower, keyof typeof colours>>> = {
  running: "green",
  starting: "yellow",
  stopping: "yellow",
  paused: "yellow",
  failed: "red",
};

const one = (positionals: readonly string[]): string => {
  const [name] = positionals;
  if (name === undefined || positionals.length > 1) throw new ClientError("name one VM");
  return name;
};

const why = ({ status }: VmView): string =>
  [status.reason, status.signal, status.detail].filter((part) => part !== undefined).join(", ");

const stateCell = ({ status: { state } }: VmView): Cell => {
  const colour = STATE_COLOURS[state];
  return colour === undefined ? { text: state } : { text: state, colour };
};

function show(context: Context, value: unknown, people: () => string): void {
  context.print(context.json ? `${JSON.stringify(value, null, 2)}\n` : people());
}

const text = (values: Values, name: string): string | undefined => {
  const value = values[name];
  return typeof value === "string" ? value : undefined;
};

function definitionOf(name: string, values: Values): DefinitionDraft {
  const file = text(values, "file");
  if (file !== undefined)
    return {
      ...(JSON.parse(readFileSync(file === "-" ? 0 : file, "utf8")) as DefinitionDraft),
      name,
    };
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
  options: {
    file: { type: "string", short: "f" },
    kernel: { type: "string", short: "k" },
    initrd: { type: "string", short: "i" },
    cmdline: { type: "string", short: "a" },
    memory: { type: "string", short: "m" },
    cpus: { type: "string", short: "c" },
  },
  details: [
    "-k, --kernel FILE    a Linux kernel (bzImage or vmlinux)",
    "-i, --initrd FILE    its initial RAM file system",
    "-a, --cmdline TEXT   its command line",
    "-m, --memory SIZE    such as 512M or 2G (256M)",
    "-c, --cpus N         1 to 64 (1)",
    "-f, --file FILE      a whole definition as JSON; - is standard input",
    "",
    'xhyvectl create web -k vmlinuz -i initrd.gz -a "console=ttyS0" -m 512M -c 2',
  ],
  async run(context, positionals, values) {
    const name = one(positionals);
    const vm = await context.client.call("createVm", { body: definitionOf(name, values) });
    show(context, vm, () => `${vm.name} is defined (${vm.uuid})\n`);
  },
};

async function allVms(client: Client): Promise<VmView[]> {
  const vms: VmView[] = [];
  for (let cursor: string | undefined; ; ) {
    const page = await client.call("listVms", cursor === undefined ? {} : { cursor });
    vms.push(...page.vms);
    cursor = page.next;
    if (cursor === undefined) return vms;
  }
}

const list: Command = {
  arguments: "",
  summary: "all VMs",
  async run(context) {
    const vms = await allVms(context.client);
    const rows = vms.map((vm): Cell[] => [
      { text: vm.name },
      stateCell(vm),
      { text: String(vm.definition.cpus) },
      { text: bytes(vm.definition.memory) },
      { text: String(vm.status.pid ?? "-") },
      { text: why(vm) },
    ]);
    show(context, vms, () =>
      vms.length === 0
        ? "no VMs; 'xhyvectl create --help' says how to define one\n"
        : table(["NAME", "STATE", "CPUS", "MEMORY", "PID", "REASON"], rows, context.colour),
    );
  },
};

const showOne: Command = {
  arguments: "VM",
  summary: "one VM: definition, state, statistics",
  async run(context, positionals) {
    const vm = await context.client.call("getVm", { vm: one(positionals) });
    const statistics =
      vm.status.state === "running" || vm.status.state === "paused"
        ? await context.client.call("getVmStatistics", { vm: vm.uuid })
        : undefined;
    const whole = statistics === undefined ? vm : { ...vm, statistics };
    show(context, whole, () => `${describe("", whole).join("\n")}\n`);
  },
};

/** Nested values as indented lines. */
function describe(indent: string, value: object): string[] {
  return Object.entries(value).flatMap(([name, member]): string[] => {
    if (typeof member !== "object" || member === null)
      return [`${indent}${name}: ${String(member)}`];
    return [`${indent}${name}:`, ...describe(`${indent}  `, member)];
  });
}

const stateNamed = (name: string): WaitState => {
  const state = WaitState.enum.find((one: string) => one === name);
  if (state === undefined) throw new ClientError(`--wait takes ${WaitState.enum.join(", ")}`);
  return state;
};

const seconds = (given: string): number => {
  if (!/^[0-9]{1,5}$/.test(given)) throw new ClientError("--timeout takes seconds");
  return Number(given);
};

type VerbOperation =
  | "startVm"
  | "shutdownVm"
  | "killVm"
  | "stopVm"
  | "resetVm"
  | "pauseVm"
  | "resumeVm";

const verb = (operation: VerbOperation, summary: string): Command => ({
  arguments: "VM",
  summary,
  options: { wait: { type: "string" }, timeout: { type: "string" } },
  details: [
    "--wait STATE         answer when the VM is in this state, or `ready`",
    "--timeout SECONDS    wait no longer than this (60)",
  ],
  async run(context, positionals, values) {
    const wait = text(values, "wait");
    const vm = await context.client.call(operation, {
      vm: one(positionals),
      ...(wait === undefined ? {} : { wait: stateNamed(wait) }),
      timeout: seconds(text(values, "timeout") ?? "60"),
    });
    show(
      context,
      vm,
      () => `${vm.name} is ${vm.status.state}${why(vm) === "" ? "" : ` (${why(vm)})`}\n`,
    );
  },
});

const consoleCommand: Command = {
  arguments: "VM",
  summary: "the serial console; Ctrl-] leaves",
  options: {
    log: { type: "boolean" },
    all: { type: "boolean" },
    follow: { type: "boolean", short: "f" },
    escape: { type: "string" },
  },
  details: [
    "--log                print what is kept of the output, and end",
    "--all                all that is kept first, then go on",
    "-f, --follow         the output alone, over all runs of the VM, until Ctrl-C",
    "--escape KEY         the key that leaves, such as ^A, or none (^])",
  ],
  async run(context, positionals, values) {
    const vm = one(positionals);
    const { client } = context;
    if (values.log === true && values.follow !== true) return printLog(context, vm);
    const offset = values.all === true || values.log === true ? 0 : undefined;
    const streams = { offset, output: process.stdout, notes: process.stderr };
    if (values.follow === true) {
      const interrupted = new AbortController();
      process.once("SIGINT", () => interrupted.abort());
      return followConsole(client, vm, streams, interrupted.signal);
    }
    const leaveBy = escapeByte(text(values, "escape") ?? "^]");
    await attachConsole(client, vm, { ...streams, input: process.stdin, leaveBy });
  },
};

async function printLog(context: Context, vm: string): Promise<void> {
  for (let offset = 0; ; ) {
    const { bytes: output, headers } = await context.client.bytes("readConsole", { vm, offset });
    if (output.length === 0) return;
    process.stdout.write(output);
    offset = headers.offset + output.length;
  }
}

const drivesTable = (drives: readonly Drive[], colour: boolean): string =>
  table(
    ["DRIVE", "TRAY", "LOCKED", "DISC"],
    drives.map(({ device, tray, locked, path: disc }): Cell[] => [
      { text: device },
      { text: tray },
      { text: locked ? "yes" : "no" },
      { text: disc ?? "-" },
    ]),
    colour,
  );

const media: Command = {
  arguments: "VM",
  summary: "what lies in a VM's CD drives",
  async run(context, positionals) {
    const answer = await context.client.call("listMedia", { vm: one(positionals) });
    show(context, answer, () => drivesTable(answer.drives, context.colour));
  },
};

const FORCE = {
  options: { force: { type: "boolean" } },
  details: ["--force              also while the guest has locked the drive"],
} as const;

async function changeMedium(
  context: Context,
  [vm, device]: readonly string[],
  values: Values,
  disc?: string,
): Promise<void> {
  if (vm === undefined || device === undefined) throw new ClientError("name a VM and a drive");
  const body = { ...(disc !== undefined && { path: resolve(disc) }), force: values.force === true };
  const answer = await context.client.call("changeMedium", { vm, device, body });
  show(context, answer, () => drivesTable(answer.drives, context.colour));
}

const eject: Command = {
  arguments: "VM DRIVE",
  summary: "take the disc out of a CD drive",
  ...FORCE,
  run: (context, positionals, values) => changeMedium(context, positionals, values),
};

const insert: Command = {
  arguments: "VM DRIVE FILE",
  summary: "put a disc into a CD drive, in place of what lies there",
  ...FORCE,
  run: (context, positionals, values) => {
    const disc = positionals[2];
    if (disc === undefined) throw new ClientError("name a VM, a drive and a disc's image");
    return changeMedium(context, positionals, values, disc);
  },
};

const remove: Command = {
  arguments: "VM",
  summary: "delete a VM that is off",
  async run(context, positionals) {
    const vm = one(positionals);
    await context.client.call("deleteVm", { vm });
    show(context, { deleted: vm }, () => `${vm} is deleted\n`);
  },
};

const host: Command = {
  arguments: "",
  summary: "this host: accelerators, memory, CPUs",
  async run(context) {
    const info = await context.client.call("getHost", {});
    show(context, info, () => `${describe("", info).join("\n")}\n`);
  },
};

export const commands: Readonly<Record<string, Command>> = {
  create,
  list,
  show: showOne,
  start: verb("startVm", "start a VM"),
  shutdown: shutdownCommand(
    verb("shutdownVm", "press the power button; stop after the time limit"),
  ),
  stop: verb("stopVm", "stop a VM at once"),
  kill: verb("killVm", "end a VM's process, whatever it is doing"),
  reset: verb("resetVm", "reset a VM"),
  pause: verb("pauseVm", "pause a VM"),
  resume: verb("resumeVm", "let a paused VM go on"),
  clone,
  operations: listOperations,
  cancel,
  guard,
  console: consoleCommand,
  media,
  eject,
  insert,
  networks: listNetworks,
  link: setLink,
  capture,
  delete: remove,
  host,
  token,
};
