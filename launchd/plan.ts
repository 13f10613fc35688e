// What an installation consists of, as data: the files, and the commands that make the service
// manager know them. Nothing is done here, so that --print and the tests see all of it.
import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export type Manager = "systemd" | "launchd";
/** The host's service manager runs the daemon as root, or the user's own as the user. */
export type Scope = "system" | "user";

export interface Layout {
  readonly manager: Manager;
  readonly scope: Scope;
  /** The node that runs the daemon; on a Mac the signed one. */
  readonly node: string;
  readonly stateDir: string;
  readonly runtimeDir: string;
  /** Seconds that guests have when the host goes down. */
  readonly guestTimeout: number;
}

export interface PlannedFile {
  readonly path: string;
  readonly text: string;
}

export type Command = readonly [program: string, ...args: string[]];

export interface Plan {
  readonly files: readonly PlannedFile[];
  /** Folders that have to be there before. */
  readonly folders: readonly string[];
  readonly enable: readonly Command[];
  readonly disable: readonly Command[];
}

/** Of the package: launchd/ lies beside bin/, also when this runs from dist/. */
const packageRoot = (): string => {
  const here = dirname(fileURLToPath(import.meta.url));
  return here.endsWith(join("dist", "launchd")) ? join(here, "..", "..") : join(here, "..");
};

/** The job also takes this long to hear of the stop and to say so. */
const STOP_MARGIN = 15;

function values(layout: Layout): Readonly<Record<string, string>> {
  const bin = join(packageRoot(), "bin");
  return {
    NODE: layout.node,
    XHYVED: join(bin, "xhyved"),
    XHYVECTL: join(bin, "xhyvectl"),
    STATE: layout.stateDir,
    RUNTIME: layout.runtimeDir,
    RUNTIME_NAME: "xhyved",
    SOCKET: join(layout.runtimeDir, "xhyved.sock"),
    TARGET: layout.scope === "system" ? "multi-user.target" : "default.target",
    TIMEOUT: String(layout.guestTimeout),
    STOP_LIMIT: String(layout.guestTimeout + STOP_MARGIN),
    LOG: logFolder(layout),
  };
}

const logFolder = ({ scope }: Layout): string =>
  scope === "system" ? "/var/log" : join(homedir(), "Library", "Logs");

type Quote = (value: string) => string;
const xml: Quote = (value) =>
  value.replace(/[&<>]/g, (char) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;" })[char] ?? char);
/** systemd.service(5), "Command lines"; systemd.unit(5), "Specifiers". */
const unit: Quote = (value) => {
  const escaped = value.replaceAll("%", "%%").replaceAll("$", "$$$$");
  return /[\s"'\\]/.test(escaped) ? `"${escaped.replace(/["\\]/g, "\\$&")}"` : escaped;
};
const plain: Quote = (value) => value;

function fill(template: string, layout: Layout, quote: Quote): string {
  const known = values(layout);
  const text = readFileSync(join(packageRoot(), "launchd", "units", template), "utf8");
  return text.replace(/@([A-Z_]+)@/g, (whole, name) => {
    const value = known[name];
    return value === undefined ? whole : quote(value);
  });
}

/** sysusers.d(5): the user that VM processes become. It stays when the rest is taken out. */
const SYSUSERS = "/etc/sysusers.d/xhyved.conf";

const SYSTEMD_UNITS = ["xhyved.socket", "xhyved.service", "xhyved-guests.service"] as const;

function systemdPlan(layout: Layout): Plan {
  const system = layout.scope === "system";
  const folder = system
    ? "/etc/systemd/system"
    : join(process.env.XDG_CONFIG_HOME ?? join(homedir(), ".config"), "systemd", "user");
  const systemctl = (...args: string[]): Command => [
    "systemctl",
    ...(system ? [] : ["--user"]),
    ...args,
  ];
  const units = SYSTEMD_UNITS.map((name) => ({
    path: join(folder, name),
    text: fill(name, layout, unit),
  }));
  const user = { path: SYSUSERS, text: fill("sysusers.conf", layout, plain) };
  return {
    folders: [layout.stateDir],
    files: system ? [user, ...units] : units,
    enable: [
      ...(system ? [["systemd-sysusers", SYSUSERS] as const] : []),
      systemctl("daemon-reload"),
      // The daemon itself too, not only its socket: VMs with autostart want it at boot.
      systemctl("enable", "--now", ...SYSTEMD_UNITS),
    ],
    // The daemon is stopped, its VMs are not: the guests' unit is disabled without being stopped.
    disable: [
      systemctl("disable", "xhyved-guests.service"),
      systemctl("disable", "--now", "xhyved.socket", "xhyved.service"),
      systemctl("daemon-reload"),
    ],
  };
}

const JOBS = ["org.xhyved.daemon", "org.xhyved.guests"] as const;

function launchdPlan(layout: Layout): Plan {
  const system = layout.scope === "system";
  const library = system ? "/Library" : join(homedir(), "Library");
  const folder = join(library, system ? "LaunchDaemons" : "LaunchAgents");
  const domain = system ? "system" : `gui/${process.getuid?.() ?? 0}`;
  const path = (job: string): string => join(folder, `${job}.plist`);
  const jobs = JOBS.map((job) => ({ path: path(job), text: fill(`${job}.plist`, layout, xml) }));
  const rotation = {
    path: "/etc/newsyslog.d/xhyved.conf",
    text: fill("newsyslog.conf", layout, plain),
  };
  return {
    folders: [layout.stateDir, layout.runtimeDir, logFolder(layout)],
    files: system ? [...jobs, rotation] : jobs,
    enable: JOBS.map((job): Command => ["launchctl", "bootstrap", domain, path(job)]),
    disable: JOBS.map((job): Command => ["launchctl", "bootout", `${domain}/${job}`]).reverse(),
  };
}

export const planOf = (layout: Layout): Plan =>
  layout.manager === "systemd" ? systemdPlan(layout) : launchdPlan(layout);
