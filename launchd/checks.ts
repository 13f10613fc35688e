// What xhyved doctor looks at. Each check says what it found and, where something is wrong, what to
// do about it. Nothing is changed, nothing is started.
import { execFileSync, spawnSync } from "node:child_process";
import { accessSync, constants, existsSync, readFileSync, statfsSync, statSync } from "node:fs";
import { connect } from "node:net";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import Sqlite from "better-sqlite3";
import { MAX_SOCKET_PATH } from "../api-schema/index.js";
import type { Settings } from "../daemon/settings.js";
import { VM_USER, vmUser } from "../daemon/vm-user.js";
import { host } from "../native/host.js";
import type { Layout } from "./plan.js";
import { planOf } from "./plan.js";

export type Verdict = "ok" | "warning" | "wrong";

export interface Finding {
  readonly check: string;
  readonly verdict: Verdict;
  readonly found: string;
  /** What to do, where something is to be done. */
  readonly advice?: string;
}

export interface Subject {
  readonly settings: Settings;
  readonly layout: Layout;
}

export interface Check {
  readonly name: string;
  run(subject: Subject): Omit<Finding, "check"> | Promise<Omit<Finding, "check">>;
}

type Result = Omit<Finding, "check">;
const ok = (found: string): Result => ({ verdict: "ok", found });
const warning = (found: string, advice: string): Result => ({ verdict: "warning", found, advice });
const wrong = (found: string, advice: string): Result => ({ verdict: "wrong", found, advice });

const MIB = 2 ** 20;
const ROOM_WRONG = 100 * MIB;
const ROOM_SCARCE = 1024 * MIB;
const OLDEST_NODE = 20;

function nodeVersion(): Result {
  const major = Number(process.versions.node.split(".")[0]);
  const found = `node ${process.versions.node} (${process.execPath})`;
  return major >= OLDEST_NODE ? ok(found) : wrong(found, `install node ${OLDEST_NODE} or newer`);
}

function addons(): Result {
  try {
    host();
    return ok("the host's addon loads");
  } catch (error) {
    return wrong((error as Error).message, "run npm ci where xhyved is installed");
  }
}

interface Accelerators {
  readonly accelerators: readonly { name: string; usable: boolean; reason: string }[];
  readonly chosen: { readonly name: string; readonly reason: string };
}

const below = (path: string): string => fileURLToPath(new URL(`../${path}`, import.meta.url));

/** In a process of its own, as the daemon does it: what probes the host may not harm who asks. */
function accelerator(): Result {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [below("vmm/process/accelerators.js")],
    { encoding: "utf8", timeout: 30_000 },
  );
  if (status !== 0)
    return wrong(
      `it cannot be found out: ${stderr.trim()}`,
      "run npm ci where xhyved is installed",
    );
  const { accelerators, chosen } = JSON.parse(stdout) as Accelerators;
  const found = `auto takes ${chosen.name}: ${chosen.reason}`;
  const refused = accelerators.find(({ name, usable }) => name === hardware() && !usable);
  return refused === undefined ? ok(found) : warning(found, refused.reason);
}

const hardware = (): string => (process.platform === "darwin" ? "hvf" : "kvm");

function entitlements(): Result {
  const { stdout, error } = spawnSync(
    "codesign",
    ["-d", "--entitlements", "-", "--xml", process.execPath],
    { encoding: "utf8" },
  );
  if (error !== undefined)
    return warning("codesign cannot be run", "install Xcode's command line tools");
  if (stdout.includes("com.apple.security.hypervisor"))
    return ok("this node may use Hypervisor.framework");
  return warning(
    `${process.execPath} lacks com.apple.security.hypervisor: VMs run on the software CPU`,
    "sign a copy of node with launchd/entitlements.plist (docs/macos.md)",
  );
}

/** The folder itself, or the nearest above it that is there. */
const nearest = (path: string): string =>
  existsSync(path) || path === dirname(path) ? path : nearest(dirname(path));

function folder(path: string): Result {
  const at = nearest(path);
  const make = at === path ? "" : `, which will be made below ${at}`;
  try {
    accessSync(at, constants.W_OK | constants.X_OK);
  } catch {
    return wrong(
      `${at} is not writable for this user`,
      "run as its owner, or choose another folder",
    );
  }
  const { uid, mode } = statSync(at);
  if (at === path && uid !== process.getuid?.())
    return wrong(`${path} belongs to user ${uid}`, `chown it, or run as user ${uid}`);
  if (at === path && (mode & 0o022) !== 0)
    return wrong(`others may write to ${path}`, `chmod go-w ${path}`);
  return ok(`${path}${make}`);
}

function diskRoom({ settings }: Subject): Result {
  const { bavail, bsize } = statfsSync(nearest(settings.stateDir));
  const free = bavail * bsize;
  const found = `${Math.round(free / MIB)} MiB free for ${settings.stateDir}`;
  if (free < ROOM_WRONG) return wrong(found, "the registry needs room to be written: make some");
  return free < ROOM_SCARCE
    ? warning(found, "disks of VMs that grow will stall: make room")
    : ok(found);
}

function socketPath({ settings: { socket } }: Subject): Result {
  const length = Buffer.byteLength(socket);
  return length <= MAX_SOCKET_PATH
    ? ok(socket)
    : wrong(
        `${socket} has ${length} bytes; a Unix socket's path has ${MAX_SOCKET_PATH} at most`,
        "choose a shorter --runtime-dir or --socket",
      );
}

const refusal = (
  where: { path: string } | { host: string; port: number },
): Promise<string | undefined> =>
  new Promise((resolve) => {
    const socket = connect(where);
    socket.setTimeout(2000, () => socket.destroy(new Error("ETIMEDOUT")));
    socket.once("connect", () => {
      socket.destroy();
      resolve(undefined);
    });
    socket.once("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
  });

async function daemon({ settings: { socket } }: Subject): Promise<Result> {
  const why = await refusal({ path: socket });
  if (why === undefined) return ok(`it answers on ${socket}`);
  if (why === "ENOENT")
    return warning("it does not run", "start it: xhyved, or 'xhyved install' for every boot");
  if (why === "EACCES")
    return wrong(
      `this user may not use ${socket}`,
      "run as the daemon's user, or see --socket-group",
    );
  return warning(
    `nothing answers on ${socket} (${why}): a daemon was killed`,
    "start xhyved: it takes the socket and its VMs over",
  );
}

async function port({ settings: { tcp, socket } }: Subject): Promise<Result> {
  if (tcp === undefined) return ok("TCP is not asked for");
  const where = `${tcp.host}:${tcp.port}`;
  const free = (await refusal({ host: tcp.host, port: tcp.port })) !== undefined;
  if (free) return ok(`${where} is free`);
  return (await refusal({ path: socket })) === undefined
    ? ok(`${where} is in use while the daemon runs`)
    : wrong(`another program listens on ${where}`, "choose another --listen");
}

function registry({ settings: { stateDir } }: Subject): Result {
  const path = join(stateDir, "registry.db");
  if (!existsSync(path)) return ok("there is none yet");
  try {
    const db = new Sqlite(path, { readonly: true, fileMustExist: true });
    try {
      const answer = String(db.pragma("quick_check", { simple: true }));
      if (answer === "ok") return ok(`${path} is whole`);
      return wrong(`${path}: ${answer}`, "restore the newest backup that lies beside it");
    } finally {
      db.close();
    }
  } catch (error) {
    return wrong(`${path}: ${(error as Error).message}`, "restore the newest backup beside it");
  }
}

function service({ layout }: Subject): Result {
  const { files } = planOf(layout);
  const there = files.filter(({ path }) => existsSync(path));
  if (there.length === 0)
    return warning(`${layout.manager} does not know xhyved`, "'xhyved install' starts it at boot");
  const stale = files.filter(
    ({ path, text }) => !existsSync(path) || readFileSync(path, "utf8") !== text,
  );
  if (stale.length === 0) return ok(`installed for ${layout.manager}`);
  return warning(
    `not as this version writes it: ${stale.map(({ path }) => path).join(", ")}`,
    "run 'xhyved install' again with the options of the first time",
  );
}

function networks(): Result {
  if (process.platform === "darwin") return ok("vmnet is part of macOS; it wants root");
  const passt = spawnSync("passt", ["--version"]).error === undefined;
  const lacking = [
    ...(passt ? [] : ["passt for networks without root"]),
    ...(existsSync("/dev/net/tun") ? [] : ["/dev/net/tun for tap networks"]),
  ];
  if (lacking.length === 0) return ok("/dev/net/tun and passt are there");
  return warning(`there is no ${lacking.join(", and no ")}`, "install passt; modprobe tun");
}

function clock(): Result {
  if (process.platform !== "linux") return ok("the host's own");
  const path = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
  const source = execFileSync("cat", [path], { encoding: "utf8", stdio: "pipe" }).trim();
  return ["hpet", "acpi_pm"].includes(source)
    ? warning(
        `the host's clock source is ${source}: every look at the time is a system call`,
        "boot the host with tsc=reliable, if its TSC is",
      )
    : ok(source);
}

/** Of a daemon that root starts on Linux: others have only the one user that they are. */
function vmProcesses({ settings }: Subject): Result {
  if (process.platform !== "linux" || process.getuid?.() !== 0)
    return ok("VMs run as the user who starts the daemon");
  const user = vmUser(settings.vmUser);
  if (user !== undefined) return ok(`VMs become user ${user.uid}, group ${user.gid}`);
  return warning(
    "VMs run as root",
    `make a user ${VM_USER} ('xhyved install' does, with systemd), or see --vm-user`,
  );
}

/** A check that cannot be made is a warning, never the end of the others. */
const cannot = (error: unknown): Result =>
  warning(`it cannot be looked at: ${(error as Error).message}`, "nothing; it may be fine");

const CHECKS: readonly Check[] = [
  { name: "node", run: nodeVersion },
  { name: "addons", run: addons },
  { name: "accelerator", run: accelerator },
  ...(process.platform === "darwin" ? [{ name: "entitlements", run: entitlements }] : []),
  { name: "state folder", run: ({ settings }) => folder(settings.stateDir) },
  { name: "runtime folder", run: ({ settings }) => folder(settings.runtimeDir) },
  { name: "socket path", run: socketPath },
  { name: "disk room", run: diskRoom },
  { name: "VM user", run: vmProcesses },
  { name: "registry", run: registry },
  { name: "daemon", run: daemon },
  { name: "TCP port", run: port },
  { name: "service", run: service },
  { name: "networks", run: networks },
  { name: "clock source", run: clock },
];

export async function examine(subject: Subject): Promise<readonly Finding[]> {
  const findings: Finding[] = [];
  for (const { name, run } of CHECKS) {
    const result = await Promise.resolve(subject).then(run).catch(cannot);
    findings.push({ check: name, ...result });
  }
  return findings;
}
