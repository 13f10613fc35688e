// xhyved install and uninstall: a plan's files written and its commands run. Below --root nothing is
// run: that is for packages, images of hosts, and for looking first.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Command, Plan, PlannedFile } from "./plan.js";

export interface Doing {
  /** The folder that stands for "/"; undefined: this host itself. */
  readonly root: string | undefined;
  tell(text: string): void;
}

export class InstallError extends Error {
  override readonly name = "InstallError";
}

const within = (root: string | undefined, path: string): string =>
  root === undefined ? path : join(root, path);

/** Whole or not at all: a service manager may read it at any time. */
function writeWhole(path: string, text: string): void {
  mkdirSync(dirname(path), { recursive: true });
  const fresh = `${path}.new`;
  writeFileSync(fresh, text, { mode: 0o644 });
  renameSync(fresh, path);
}

const sameAlready = (path: string, text: string): boolean =>
  existsSync(path) && readFileSync(path, "utf8") === text;

function put({ path, text }: PlannedFile, { root, tell }: Doing): void {
  const at = within(root, path);
  const same = sameAlready(at, text);
  if (!same) write(at, text);
  tell(`${same ? "unchanged " : "written   "} ${at}`);
}

function write(path: string, text: string): void {
  try {
    writeWhole(path, text);
  } catch (error) {
    const why = (error as NodeJS.ErrnoException).code ?? String(error);
    throw new InstallError(
      `${path} cannot be written (${why}): run it as root, or with --user for this user alone`,
    );
  }
}

function run(command: Command, tell: Doing["tell"]): void {
  const [program, ...args] = command;
  tell(`running    ${command.join(" ")}`);
  const { status, error, stderr } = spawnSync(program, args, { encoding: "utf8" });
  if (status === 0) return;
  const why = error?.message ?? stderr.trim();
  throw new InstallError(
    `'${command.join(" ")}' failed: ${why}. The files are in place; when that is mended, run it by hand.`,
  );
}

export function install(plan: Plan, doing: Doing): void {
  for (const folder of plan.folders)
    mkdirSync(within(doing.root, folder), { recursive: true, mode: 0o700 });
  for (const file of plan.files) put(file, doing);
  if (doing.root === undefined) for (const command of plan.enable) run(command, doing.tell);
}

/** Definitions, disks and running VMs stay. What the service manager does not know is no error. */
export function uninstall(plan: Plan, { root, tell }: Doing): void {
  if (root === undefined)
    for (const command of plan.disable) {
      try {
        run(command, tell);
      } catch (error) {
        tell(`  ${(error as Error).message.split("\n")[0]}`);
      }
    }
  for (const { path } of plan.files) {
    const at = within(root, path);
    tell(`${existsSync(at) ? "removed    " : "not there  "}${at}`);
    rmSync(at, { force: true });
  }
}
