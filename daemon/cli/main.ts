// bin/xhyvectl: nothing that the API cannot do.
import { type ParseArgsConfig, parseArgs } from "node:util";
import { version } from "../version.js";
import { Client, ClientError } from "./client.js";
import { type Command, commands } from "./commands.js";

const GLOBAL = {
  socket: { type: "string", short: "s" },
  url: { type: "string" },
  "token-file": { type: "string" },
  "ca-file": { type: "string" },
  json: { type: "boolean" },
  help: { type: "boolean", short: "h" },
} as const satisfies ParseArgsConfig["options"];

const GLOBAL_HELP = `  -s, --socket PATH      the daemon's socket ($XHYVED_SOCKET)
      --url URL          the daemon over TCP, such as http://127.0.0.1:8006
      --token-file FILE  the token for TCP
      --ca-file FILE     the certificate to check an https URL's server by
      --json             answer in JSON
  -h, --help             this text, or a command's
`;

function usage(): string {
  const lines = Object.entries(commands).map(
    ([name, command]) => `  ${`${name} ${command.arguments}`.padEnd(18)} ${command.summary}`,
  );
  return `usage: xhyvectl COMMAND [options]

${lines.join("\n")}

${GLOBAL_HELP}
Examples:
  xhyvectl create web -k vmlinuz -i initrd.gz -a "console=ttyS0" -m 512M
  xhyvectl start web && xhyvectl console web
  xhyvectl list --json
`;
}

const usageOf = (name: string, command: Command): string =>
  `usage: xhyvectl ${name} ${command.arguments}\n\n${command.summary}\n\n` +
  `${(command.details ?? []).map((line) => `  ${line}\n`).join("")}${GLOBAL_HELP}`;

async function run(args: readonly string[]): Promise<void> {
  const [name = "--help", ...rest] = args;
  if (name === "--version" || name === "-v")
    return void process.stdout.write(`xhyvectl ${version}\n`);
  const command = commands[name];
  if (command === undefined) {
    if (name === "--help" || name === "-h" || name === "help")
      return void process.stdout.write(usage());
    throw new ClientError(`there is no command ${name}; 'xhyvectl --help' lists them`);
  }
  const { values, positionals } = parseArgs({
    args: rest,
    options: { ...command.options, ...GLOBAL },
    allowPositionals: true,
  });
  if (values.help === true) return void process.stdout.write(usageOf(name, command));
  const given = values as Record<string, string | boolean | undefined>;
  const client = new Client({
    ...(values.socket === undefined ? {} : { socket: String(values.socket) }),
    ...(values.url === undefined ? {} : { url: String(values.url) }),
    ...(values["token-file"] === undefined ? {} : { tokenFile: String(values["token-file"]) }),
    ...(values["ca-file"] === undefined ? {} : { caFile: String(values["ca-file"]) }),
  });
  await command.run(
    {
      client,
      json: values.json === true,
      colour: process.stdout.isTTY === true && process.env.NO_COLOR === undefined,
      print: (text) => process.stdout.write(text),
    },
    positionals,
    given,
  );
}

export async function main(args: readonly string[]): Promise<void> {
  try {
    await run(args);
  } catch (error) {
    const problem = error instanceof ClientError ? error.problem : undefined;
    if (problem !== undefined && args.includes("--json"))
      process.stdout.write(`${JSON.stringify(problem, null, 2)}\n`);
    process.stderr.write(`xhyvectl: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = 1;
  }
}
