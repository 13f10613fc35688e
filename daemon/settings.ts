// Where the daemon keeps what it keeps, and what it listens on.
import { homedir } from "node:os";
import { isAbsolute, join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { VmError } from "../api-schema/index.js";

export interface TcpSettings {
  readonly host: string;
  readonly port: number;
  readonly tokenFile: string;
}

export interface Settings {
  /** The registry, console histories: survives reboots. */
  readonly stateDir: string;
  /** Sockets and the folders of running VMs: survives the daemon, not a reboot. */
  readonly runtimeDir: string;
  readonly socket: string;
  readonly tcp: TcpSettings | undefined;
  readonly logLevel: string;
}

export const USAGE = `usage: xhyved [options]

Runs virtual machines and offers them over a local API.

  --state-dir DIR     the registry and the consoles' histories
                      (root: /var/lib/xhyved; else ~/.local/state/xhyved)
  --runtime-dir DIR   sockets and the folders of running VMs
                      (root: /run/xhyved; else $XDG_RUNTIME_DIR/xhyved)
  --socket PATH       the API's Unix socket, mode 0600 (RUNTIME-DIR/xhyved.sock)
  --listen HOST:PORT  the API on TCP as well; loopback only, needs --token-file
  --token-file FILE   a file whose first line is the bearer token TCP clients must send
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

function parseListen(listen: string, tokenFile: string | undefined): TcpSettings {
  const split = /^\[?([^\]]+?)\]?:([0-9]{1,5})$/.exec(listen);
  const port = Number(split?.[2]);
  const host = split?.[1] ?? "";
  if (split === null || port > 65535)
    throw new VmError("REQUEST_INVALID", ["--listen", `${listen} is not HOST:PORT`]);
  if (!LOOPBACK.has(host))
    throw new VmError("REQUEST_INVALID", ["--listen", `${host} is not a loopback address`]);
  if (tokenFile === undefined)
    throw new VmError("REQUEST_INVALID", ["--listen", "TCP needs --token-file"]);
  return { host, port, tokenFile: resolve(tokenFile) };
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
      "token-file": { type: "string" },
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
    tcp: values.listen === undefined ? undefined : parseListen(values.listen, values["token-file"]),
    logLevel: values["log-level"] ?? "info",
  };
}
