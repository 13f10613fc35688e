// bin/xhyved: opens the registry, takes its VMs back, and serves. SIGTERM and SIGINT end the
// daemon; the VMs go on.
import { type Logger, pino } from "pino";
import { MAX_SOCKET_PATH, VmError } from "../api-schema/index.js";
import { host } from "../native/host.js";
import { bootId } from "./boot-id.js";
import { EventLog } from "./events/event-log.js";
import { inheritedSockets, listenOnDescriptor } from "./http/inherited.js";
import {
  buildServer,
  listenOnSocket,
  readNamed,
  readTokenFile,
  type TcpParts,
} from "./http/server.js";
import { Images } from "./images/images.js";
import { lockFolder, ownFolder } from "./lock.js";
import { Networks } from "./networks/networks.js";
import { CLONE, cloneVm } from "./operations/clone.js";
import { HOST_SHUTDOWN, hostShutdown } from "./operations/host-shutdown.js";
import { IMPORT_IMAGE, importImage } from "./operations/import-image.js";
import { Operations } from "./operations/operations.js";
import { PathRules } from "./paths.js";
import { Database } from "./registry/database.js";
import { Tokens } from "./registry/tokens.js";
import { parseSettings, type Settings, type TcpSettings, USAGE } from "./settings.js";
import { Supervisor } from "./supervisor/supervisor.js";
import { VmFolders } from "./supervisor/vm-folders.js";
import { version } from "./version.js";
import { vmUser } from "./vm-user.js";

function checkSocketPath(path: string): void {
  const length = Buffer.byteLength(path);
  if (length > MAX_SOCKET_PATH) throw new VmError("SOCKET_PATH_TOO_LONG", [path, length]);
}

/** What TCP needs is read before anything else happens: a file that is missing is told at once. */
const tcpFiles = ({ tokenFile, tls }: TcpSettings): Pick<TcpParts, "fileToken" | "tls"> => ({
  fileToken: tokenFile === undefined ? undefined : readTokenFile(tokenFile),
  tls: tls && { cert: readNamed(tls.cert), key: readNamed(tls.key) },
});

/** To systemd, where it listens; a manager that is deaf is no reason to end. */
const notifier =
  (log: Logger) =>
  (text: string): void => {
    try {
      host().sdNotify(text);
    } catch (error) {
      log.warn({ err: error }, "the service manager cannot be told");
    }
  };

async function serve(settings: Settings): Promise<void> {
  checkSocketPath(settings.socket);
  const { stateDir, runtimeDir, confine } = settings;
  for (const folder of new Set([stateDir, runtimeDir])) {
    ownFolder(folder);
    lockFolder(folder);
  }

  const files = settings.tcp && tcpFiles(settings.tcp);
  const user = vmUser(settings.vmUser);
  const log = pino({ level: settings.logLevel });
  const db = new Database(stateDir);
  const events = new EventLog(db);
  const images = new Images(stateDir);
  const paths = new PathRules(settings.paths, images.folder);
  const folders = new VmFolders(stateDir, runtimeDir, { paths, user, confine });
  const networks = new Networks(db, events);
  const supervisor = new Supervisor({ db, events, folders, log, paths, images, networks });
  const operations = new Operations({ db, events, log });
  operations.define(HOST_SHUTDOWN, hostShutdown(supervisor));
  operations.define(CLONE, cloneVm(supervisor));
  operations.define(IMPORT_IMAGE, importImage(images));
  supervisor.hostGoesDown = operations.isUnderWay(HOST_SHUTDOWN);
  await supervisor.load(bootId());
  operations.resume();

  const tokens = new Tokens(db);
  const parts = {
    db,
    paths,
    images,
    networks,
    supervisor,
    folders,
    events,
    operations,
    tokens,
    log,
    version,
  };
  const local = await buildServer(parts);
  const servers = [local];
  const [given, ...more] = inheritedSockets();
  if (more.length > 0)
    throw new VmError("REQUEST_INVALID", ["LISTEN_FDS", "one socket is served, not several"]);
  if (given !== undefined) await listenOnDescriptor(local, given);
  else await listenOnSocket(local, settings.socket, settings.socketOptions);
  if (settings.tcp !== undefined && files !== undefined) {
    const { host, port, names } = settings.tcp;
    const tcp = await buildServer(parts, { ...files, tokens, hosts: new Set(names) });
    await tcp.listen({ host, port });
    servers.push(tcp);
  }
  const notify = notifier(log);
  notify("READY=1");
  const end = async (): Promise<void> => {
    notify("STOPPING=1");
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
