// bin/xhyved: opens the registry, takes its VMs back, and serves. SIGTERM and SIGINT end the
// daemon; the VMs go on.
import { pino } from "pino";
import { MAX_SOCKET_PATH, VmError } from "../api-schema/index.js";
import { buildServer, listenOnSocket, readToken } from "./http/server.js";
import { lockFolder, ownFolder } from "./lock.js";
import { Registry } from "./registry/registry.js";
import { parseSettings, type Settings, USAGE } from "./settings.js";
import { Supervisor } from "./supervisor/supervisor.js";
import { VmFolders } from "./supervisor/vm-folders.js";
import { version } from "./version.js";

function checkSocketPath(path: string): void {
  const length = Buffer.byteLength(path);
  if (length > MAX_SOCKET_PATH) throw new VmError("SOCKET_PATH_TOO_LONG", [path, length]);
}

async function serve(settings: Settings): Promise<void> {
  checkSocketPath(settings.socket);
  const { stateDir, runtimeDir } = settings;
  for (const folder of new Set([stateDir, runtimeDir])) {
    ownFolder(folder);
    lockFolder(folder);
  }

  const token = settings.tcp === undefined ? undefined : readToken(settings.tcp);
  const log = pino({ level: settings.logLevel });
  const registry = new Registry(stateDir);
  const folders = new VmFolders(stateDir, runtimeDir);
  const supervisor = new Supervisor(registry, folders, log);
  await supervisor.load();

  const parts = { supervisor, folders, log, version };
  const servers = [await buildServer(parts)];
  if (servers[0] !== undefined) await listenOnSocket(servers[0], settings.socket);
  if (settings.tcp !== undefined && token !== undefined) {
    const tcp = await buildServer(parts, token);
    await tcp.listen({ host: settings.tcp.host, port: settings.tcp.port });
    servers.push(tcp);
  }
  const end = async (): Promise<void> => {
    await Promise.all(servers.map((server) => server.close()));
    supervisor.release();
    registry.close();
    process.exit(0);
  };
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => void end());
}

export async function main(args: readonly string[]): Promise<void> {
  try {
    const settings = parseSettings(args);
    if (settings === "help") process.stdout.write(USAGE);
    else if (settings === "version") process.stdout.write(`xhyved ${version}\n`);
    else await serve(settings);
  } catch (error) {
    process.stderr.write(`xhyved: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exit(1);
  }
}
