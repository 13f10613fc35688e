// bin/xhyvectl: nothing that the API cannot do.
import { type ParseArgsConfig, parseArgs } from "node:util";
import type { Problem } from "../../api-schema/index.js";
import { version } from "../version.js";
import { Client, ClientError } from "./client.js";
import { type Command, text, type Values } from "./command.js";
import { commands } from "./commands.js";
import { globalOptions } from "./global-options.js";
import { usage, usageOf } from "./help.js";

interface Line {
  /** Options before the command. */
  readonly before: readonly string[];
  readonly words: readonly string[];
}

/** Options that every command has may stand before its name, each with its value. */
function split(args: readonly string[]): Line {
  let at = 0;
  while (args[at]?.startsWith("-") === true) {
    const name = args[at] ?? "";
    const takesValue = Object.entries<{ type: string; short?: string }>(globalOptions).some(
      ([long, { type, short }]) =>
        type === "string" && (name === `--${long}` || name === `-${short}`),
    );
    at += takesValue ? 2 : 1;
  }
  return { before: args.slice(0, at), words: args.slice(at) };
}

interface Chosen {
  readonly name: string;
  readonly command: Command;
  readonly rest: readonly string[];
}

/** Names of two words first. */
function choose([first = "", second = "", ...rest]: readonly string[]): Chosen {
  const two = commands[`${first} ${second}`];
  if (two !== undefined) return { name: `${first} ${second}`, command: two, rest };
  const one = commands[first];
  if (one !== undefined)
    return { name: first, command: one, rest: second === "" ? rest : [second, ...rest] };
  const others = Object.keys(commands).filter((name) => name.startsWith(`${first} `));
  if (others.length > 0) throw new ClientError(`${first} what? There is ${others.join(", ")}`);
  throw new ClientError(`there is no command ${first}; 'xhyvectl --help' lists them`);
}

const clientFor = (values: Values): Client => {
  const named = { socket: "socket", url: "url", tokenFile: "token-file", caFile: "ca-file" };
  const given = Object.entries(named).flatMap(([key, option]) => {
    const value = text(values, option);
    return value === undefined ? [] : [[key, value] as const];
  });
  return new Client(Object.fromEntries(given));
};

async function run(args: readonly string[]): Promise<void> {
  const { before, words } = split(args);
  if (before.some((arg) => arg === "--version" || arg === "-v"))
    return void process.stdout.write(`xhyvectl ${version}\n`);
  if (words.length === 0 || words[0] === "help") return void process.stdout.write(usage(commands));
  const { name, command, rest } = choose(words);
  const { values: given, positionals } = parseArgs({
    args: [...before, ...rest],
    options: { ...command.options, ...globalOptions } as ParseArgsConfig["options"] & object,
    allowPositionals: true,
  });
  const values = given as Values;
  if (values.help === true) return void process.stdout.write(usageOf(name, command));
  const context = {
    client: clientFor(values),
    json: values.json === true,
    colour: process.stdout.isTTY === true && process.env.NO_COLOR === undefined,
    print: (line: string) => void process.stdout.write(line),
  };
  await command.run(context, positionals, values);
}

/** What a VM can be asked in place of what its state forbids. */
const insteadOf = ({ code, actions = [] }: Partial<Problem> = {}): string =>
  code === "VM_STATE_FORBIDS" && actions.length > 0 ? `; it can: ${actions.join(", ")}` : "";

export async function main(args: readonly string[]): Promise<void> {
  // `xhyvectl events | head`: who reads no more ends us, and nothing is wrong.
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    process.exit(error.code === "EPIPE" ? 0 : 1);
  });
  try {
    await run(args);
  } catch (error) {
    const problem = error instanceof ClientError ? error.problem : undefined;
    if (problem !== undefined && args.includes("--json"))
      process.stdout.write(`${JSON.stringify(problem, null, 2)}\n`);
    const message = error instanceof Error ? error.message : String(error);
    process.stderr.write(`xhyvectl: ${message}${insteadOf(problem)}\n`);
    process.exitCode = 1;
  }
}
