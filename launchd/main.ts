// xhyved install, uninstall and doctor.
import { accessSync, existsSync } from "node:fs";
import { parseArgs } from "node:util";
import { type Cell, table } from "../daemon/cli/table.js";
import { parseSettings } from "../daemon/settings.js";
import { examine, type Finding, type Verdict } from "./checks.js";
import { InstallError, install, uninstall } from "./install.js";
import { type Layout, type Manager, planOf } from "./plan.js";
import type { Verb } from "./verbs.js";

const USAGE: Record<Verb, string> = {
  install: `usage: xhyved install [options]

Makes systemd or launchd start the daemon: at boot, and when its socket is first used. Guests are
shut down when the host goes down. Running it again changes only what is not as it should be.

  --user              for this user alone (a LaunchAgent; systemd --user)
  --state-dir DIR, --runtime-dir DIR   as for xhyved
  --guest-timeout S   seconds that guests have to shut down with the host (120)
  --node PATH         the node that runs the daemon (this one; on a Mac the signed one)
  --manager NAME      systemd or launchd (what this host has)
  --root DIR          only write the files, below DIR (for packages)
  --print             only show them
  -h, --help          this text

Examples:
  sudo xhyved install
  xhyved install --user --state-dir ~/vms
  xhyved install --root ./package --manager systemd
`,
  uninstall: `usage: xhyved uninstall [--user] [--manager NAME] [--root DIR]

Takes out what 'xhyved install' put in. Definitions and disks stay, and the user xhyved-vm. With systemd running VMs stay
too; launchd shuts the guests down, as it does when the host goes down.
`,
  doctor: `usage: xhyved doctor [--json] [options of xhyved]

Looks at what the daemon needs on this host and says what to do where something is wrong. Its exit
status is 1 then, and 0 where there are at most warnings.

Examples:
  xhyved doctor
  xhyved doctor --json | jq '.[] | select(.verdict != "ok")'
`,
};

const OPTIONS = {
  user: { type: "boolean" },
  manager: { type: "string" },
  node: { type: "string" },
  root: { type: "string" },
  print: { type: "boolean" },
  "guest-timeout": { type: "string", default: "120" },
  "state-dir": { type: "string" },
  "runtime-dir": { type: "string" },
  socket: { type: "string" },
  listen: { type: "string" },
  "tls-cert": { type: "string" },
  "tls-key": { type: "string" },
  "vm-user": { type: "string" },
  json: { type: "boolean" },
  help: { type: "boolean", short: "h" },
} as const;

const parse = (args: readonly string[]) => parseArgs({ args: [...args], options: OPTIONS }).values;
type Values = ReturnType<typeof parse>;

function managerOf(named: string | undefined): Manager {
  if (named === "systemd" || named === "launchd") return named;
  if (named !== undefined) throw new InstallError(`--manager: ${named} is not systemd or launchd`);
  return process.platform === "darwin" ? "launchd" : "systemd";
}

/** Both the daemon's own folders and those of the plan come from its one parser. */
const daemonArguments = (values: Values): string[] =>
  (
    ["state-dir", "runtime-dir", "socket", "listen", "tls-cert", "tls-key", "vm-user"] as const
  ).flatMap((name) => {
    const value = values[name];
    return value === undefined ? [] : [`--${name}`, value];
  });

function layoutOf(values: Values): Layout {
  const settings = parseSettings(daemonArguments(values));
  if (settings === "help" || settings === "version") throw new Error("unreachable");
  const guestTimeout = Number(values["guest-timeout"]);
  if (!Number.isInteger(guestTimeout) || guestTimeout < 1 || guestTimeout > 3600)
    throw new InstallError("--guest-timeout: seconds, 1 to 3600");
  const { node = process.execPath } = values;
  if (values.root === undefined) accessSync(node);
  const { stateDir, runtimeDir } = settings;
  const scope = values.user === true ? "user" : "system";
  return { manager: managerOf(values.manager), scope, node, stateDir, runtimeDir, guestTimeout };
}

const tell = (text: string): void => void process.stdout.write(`${text}\n`);

/** Where there is no such manager on this host its commands would fail one by one. */
function demandManager(layout: Layout, root: string | undefined): void {
  if (root !== undefined || layout.manager === "launchd" || existsSync("/run/systemd/system"))
    return;
  throw new InstallError(
    "systemd does not run this host; --root DIR writes the files elsewhere, --print shows them",
  );
}

function doInstall(values: Values): void {
  const layout = layoutOf(values);
  const plan = planOf(layout);
  if (values.print === true) {
    for (const { path, text } of plan.files) tell(`# ${path}\n${text}`);
    for (const command of plan.enable) tell(`# then: ${command.join(" ")}`);
    return;
  }
  demandManager(layout, values.root);
  install(plan, { root: values.root, tell });
}

function doUninstall(values: Values): void {
  const layout = layoutOf(values);
  demandManager(layout, values.root);
  uninstall(planOf(layout), { root: values.root, tell });
}

const COLOURS: Record<Verdict, NonNullable<Cell["colour"]>> = {
  ok: "green",
  warning: "yellow",
  wrong: "red",
};

function show(findings: readonly Finding[]): void {
  const rows = findings.map(({ check, verdict, found, advice }) => [
    { text: check },
    { text: verdict, colour: COLOURS[verdict] },
    { text: advice === undefined ? found : `${found}; ${advice}` },
  ]);
  tell(table(["CHECK", "VERDICT", "FOUND"], rows, process.stdout.isTTY === true).trimEnd());
}

async function doctor(values: Values): Promise<void> {
  const settings = parseSettings(daemonArguments(values));
  if (settings === "help" || settings === "version") throw new Error("unreachable");
  const findings = await examine({ settings, layout: layoutOf(values) });
  if (values.json === true) tell(JSON.stringify(findings, undefined, 2));
  else show(findings);
  process.exitCode = findings.some(({ verdict }) => verdict === "wrong") ? 1 : 0;
}

const DO: Record<Verb, (values: Values) => void | Promise<void>> = {
  install: doInstall,
  uninstall: doUninstall,
  doctor,
};

export async function main(verb: Verb, args: readonly string[]): Promise<void> {
  try {
    const values = parse(args);
    if (values.help === true) process.stdout.write(USAGE[verb]);
    else await DO[verb](values);
  } catch (error) {
    process.stderr.write(`xhyved ${verb}: ${(error as Error).message}\n`);
    process.exitCode = 1;
  }
}
