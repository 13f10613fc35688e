// bin/xhyved: opens the registry, takes its VMs back, and serves. SIGTERM and SIGINT end the
// daemon; the VMs go on.
import { pino } from "pino";
import { MAX_SOCKET_PATH, VmError } from "../api-schema/index.js";
import { bootId } from "./boot-id.js";
import { EventLog } from "./events/event-log.js";
import { buildServer, listenOnSocket, readToken } from "./http/server.js";
import { lockFolder, ownFolder } from "./lock.js";
import { CLONE, cloneVm } from "./operations/clone.js";
import { HOST_SHUTDOWN, hostShutdown } from "./operations/host-shutdown.js";
import { Operations } from "./operations/operations.js";
import { Database } from "./registry/database.js";
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
  const db = new Database(stateDir);
  const events = new EventLog(db);
  const folders = new VmFolders(stateDir, runtimeDir);
  const supervisor = new Supervisor({ db, events, folders, log });
  const operations = new Operations({ db, events, log });
  operations.define(HOST_SHUTDOWN, hostShutdown(supervisor));
  operations.define(CLONE, cloneVm(supervisor));
  supervisor.hostGoesDown = operations.isUnderWay(HOST_SHUTDOWN);
  await supervisor.load(bootId());
  operations.resume();

  const parts = { db, supervisor, folders, events, operations, log, version };
  const servers = [await buildServer(parts)];
  if (servers[0] !== undefined) await listenOnSocket(servers[0], settings.socket);
  if (settings.tcp !== undefined && token !== undefined) {
    const tcp = await buildServer(parts, token);
    await tcp.listen({ host: settings.tcp.host, port: settings.tcp.port });
    servers.push(tcp);
  }
  const end = async (): Promise<void> => {
    await Promise.all(servers.map((server) => server.close()));
    await operations.release();
    supervisor.release();
    events.append("daemon.stopping", { pid: process.pid });
    db.close();
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
