// Where the daemon keeps what it keeps, and what it listens on.
import { homedir } from "node:os";
import { isAbsolute, join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { VmError } from "../api-schema/index.js";

export interface TcpSettings {
  readonly host: string;
  readonly port: number;
  /** A file with a token that may do all; those of the registry are there besides. */
  readonly tokenFile: string | undefined;
  readonly tls: { readonly cert: string; readonly key: string } | undefined;
  /** What a request's Host may name. */
  readonly names: readonly string[];
}

export interface Settings {
  /** The registry, console histories: survives reboots. */
  readonly stateDir: string;
  /** Sockets and the folders of running VMs: survives the daemon, not a reboot. */
  readonly runtimeDir: string;
  readonly socket: string;
  /** The folders that definitions may name files in; none: local clients may name any. */
  readonly paths: readonly string[];
  readonly socketOptions: { readonly mode: number; readonly group: string | undefined };
  readonly tcp: TcpSettings | undefined;
  /** Whom VM processes become; undefined: VM_USER, where that can be. */
  readonly vmUser: string | undefined;
  /** VM processes give up what only the building of their machine needs. */
  readonly confine: boolean;
  readonly logLevel: string;
}

export const USAGE = `usage: xhyved [options]

Runs virtual machines and offers them over a local API.

  --state-dir DIR     the registry and the consoles' histories
                      (root: /var/lib/xhyved; else ~/.local/state/xhyved)
  --runtime-dir DIR   sockets and the folders of running VMs
                      (root: /run/xhyved; else $XDG_RUNTIME_DIR/xhyved)
  --socket PATH       the API's Unix socket (RUNTIME-DIR/xhyved.sock)
  --socket-mode MODE  who may use it, in octal (0600); --socket-group GROUP gives it to a group
  --listen HOST:PORT  the API on TCP as well, for clients with a token ('xhyvectl token create');
                      on other than loopback addresses only with TLS
  --token-file FILE   a file whose first line is a token that may do all
  --tls-cert FILE     the certificate (chain) in PEM, with --tls-key FILE: TCP speaks TLS only
  --host-name NAME    another name that clients know this host by; may be given again
  --path DIR          a folder that the files of definitions must lie in; may be given again.
                      Without it clients of the socket may name any file, others none
  --vm-user USER      whom VM processes become when their machine stands; of a daemon of root's
                      on Linux (xhyved-vm, where there is such a user; root: nobody else)
  --unconfined        VM processes keep the system calls (Linux) and files (macOS) that they have
                      no need of: to find out whether that is what fails
  --log-level LEVEL   trace, debug, info, warn, error or silent (info)
  -h, --help          this text
  -v, --version       the version

Examples:
  xhyved --state-dir /srv/vms --runtime-dir /run/xhyved
  xhyved --listen 127.0.0.1:8006 --token-file /etc/xhyved/token
  curl --unix-socket /run/xhyved/xhyved.sock http://localhost/v1/vms
`;

const isRoot = (): boolean => process.getuid?.() === 0;

const defaultStateDir = (): string => {
  if (isRoot()) return "/var/lib/xhyved";
  return join(process.env.XDG_STATE_HOME ?? join(homedir(), ".local", "state"), "xhyved");
};

export const defaultRuntimeDir = (): string => {
  if (isRoot()) return "/run/xhyved";
  return process.env.XDG_RUNTIME_DIR === undefined
    ? `/tmp/xhyved-${process.getuid?.() ?? 0}`
    : join(process.env.XDG_RUNTIME_DIR, "xhyved");
};

export const defaultSocket = (): string =>
  process.env.XHYVED_SOCKET ?? join(defaultRuntimeDir(), "xhyved.sock");

const LOOPBACK = new Set(["127.0.0.1", "::1", "localhost"]);

interface TcpOptions {
  readonly "token-file"?: string | undefined;
  readonly "tls-cert"?: string | undefined;
  readonly "tls-key"?: string | undefined;
  readonly "host-name"?: string[] | undefined;
}

function parseListen(listen: string, options: TcpOptions): TcpSettings {
  const split = /^\[?([^\]]+?)\]?:([0-9]{1,5})$/.exec(listen);
  const port = Number(split?.[2]);
  const host = split?.[1] ?? "";
  if (split === null || port > 65535)
    throw new VmError("REQUEST_INVALID", ["--listen", `${listen} is not HOST:PORT`]);
  const tls = parseTls(options);
  if (!LOOPBACK.has(host) && tls === undefined)
    throw new VmError("REQUEST_INVALID", [
      "--listen",
      `${host} is not a loopback address: that needs --tls-cert and --tls-key`,
    ]);
  const { "token-file": tokenFile, "host-name": more = [] } = options;
  const names = [...LOOPBACK, host, ...more].map((name) => name.toLowerCase());
  return { host, port, tls, names, tokenFile: tokenFile && resolve(tokenFile) };
}

function parseTls(options: TcpOptions): TcpSettings["tls"] {
  const { "tls-cert": cert, "tls-key": key } = options;
  if (cert === undefined && key === undefined) return undefined;
  if (cert === undefined || key === undefined)
    throw new VmError("REQUEST_INVALID", ["--tls-cert", "goes together with --tls-key"]);
  return { cert: resolve(cert), key: resolve(key) };
}

/** Others than the owner and the group may never connect. */
function parseMode(text: string): number {
  if (!/^0?[0-7]{2}0$/.test(text))
    throw new VmError("REQUEST_INVALID", ["--socket-mode", `${text} is not such as 0600 or 0660`]);
  return Number.parseInt(text, 8);
}

/** What the command line asks for; "help" and "version" are answers of their own. */
export function parseSettings(args: readonly string[]): Settings | "help" | "version" {
  const { values } = parseArgs({
    args: [...args],
    options: {
      "state-dir": { type: "string" },
      "runtime-dir": { type: "string" },
      socket: { type: "string" },
      listen: { type: "string" },
      path: { type: "string", multiple: true, default: [] },
      "socket-mode": { type: "string", default: "0600" },
      "socket-group": { type: "string" },
      "token-file": { type: "string" },
      "tls-cert": { type: "string" },
      "tls-key": { type: "string" },
      "host-name": { type: "string", multiple: true },
      "vm-user": { type: "string" },
      unconfined: { type: "boolean", default: false },
      "log-level": { type: "string" },
      help: { type: "boolean", short: "h" },
      version: { type: "boolean", short: "v" },
    },
  });
  if (values.help === true) return "help";
  if (values.version === true) return "version";
  const runtimeDir = resolve(values["runtime-dir"] ?? defaultRuntimeDir());
  const socket = values.socket ?? join(runtimeDir, "xhyved.sock");
  return {
    stateDir: resolve(values["state-dir"] ?? defaultStateDir()),
    runtimeDir,
    socket: isAbsolute(socket) ? socket : resolve(socket),
    paths: values.path.map((folder) => resolve(folder)),
    socketOptions: { mode: parseMode(values["socket-mode"]), group: values["socket-group"] },
    tcp: values.listen === undefined ? undefined : parseListen(values.listen, values),
    vmUser: values["vm-user"],
    confine: !values.unconfined,
    logLevel: values["log-level"] ?? "info",
  };
}
