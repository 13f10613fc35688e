// The HTTP server: one instance for each thing it listens on, with the same routes.
import { execFileSync } from "node:child_process";
import { chmodSync, readFileSync, rmSync } from "node:fs";
import { createServer, type RequestListener, type Server } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { connect } from "node:net";
import websocket from "@fastify/websocket";
import Fastify, {
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  LogController,
} from "fastify";
import type { Logger } from "pino";
import { reasonOf, VmError } from "../../api-schema/index.js";
import type { EventLog } from "../events/event-log.js";
import type { Images } from "../images/images.js";
import type { Networks } from "../networks/networks.js";
import type { Operations } from "../operations/operations.js";
import type { PathRules } from "../paths.js";
import type { Database } from "../registry/database.js";
import { type Tokens, tokenDigest } from "../registry/tokens.js";
import type { Supervisor } from "../supervisor/supervisor.js";
import type { VmFolders } from "../supervisor/vm-folders.js";
import { socketAccess, type TcpAccess, tcpAccess } from "./access.js";
import { type ConnectionLimits, Connections, TIMEOUTS } from "./connections.js";
import { makeDispatcher } from "./dispatch.js";
import { makeHandlers } from "./handlers/index.js";
import { Answers } from "./idempotency.js";
import {
  BODY_LIMIT,
  HEADER_LIMIT,
  knownError,
  problems,
  refuseNonHttp,
  type StateOf,
  sendProblem,
} from "./problems.js";
import { operationRoutes } from "./routes.js";
import { rpcRoutes } from "./rpc-routes.js";

export interface ServerParts {
  readonly db: Database;
  readonly paths: PathRules;
  readonly supervisor: Supervisor;
  readonly folders: VmFolders;
  readonly events: EventLog;
  readonly images: Images;
  readonly networks: Networks;
  readonly operations: Operations;
  readonly tokens: Tokens;
  readonly log: Logger;
  readonly version: string;
  readonly limits?: ConnectionLimits;
}

/** Where there is no `tcp`, for the Unix socket. */
export interface TcpParts extends TcpAccess {
  readonly tls: { readonly cert: Buffer; readonly key: Buffer } | undefined;
}

export async function buildServer(parts: ServerParts, tcp?: TcpParts): Promise<FastifyInstance> {
  const app = Fastify({
    loggerInstance: parts.log as FastifyBaseLogger,
    bodyLimit: BODY_LIMIT,
    logController: new LogController({ disableRequestLogging: true }),
    // One for each request would cost more than the request: who logs names it.
    childLoggerFactory: (logger) => logger,
    forceCloseConnections: true,
    exposeHeadRoutes: false,
    frameworkErrors: (error, request, reply) => sendProblem(knownError(error), request, reply),
    clientErrorHandler: refuseNonHttp,
    // Called for each address that a host name stands for.
    serverFactory: (handler) => {
      const server = serverFor(handler, tcp?.tls);
      new Connections(server, parts.limits);
      return server;
    },
  });
  await registerAll(app, parts, tcp);
  await app.ready();
  return app;
}

const WIRE = { maxHeaderSize: HEADER_LIMIT, ...TIMEOUTS };

const serverFor = (handler: RequestListener, tls: TcpParts["tls"]): Server =>
  tls === undefined
    ? createServer(WIRE, handler)
    : createTlsServer({ ...WIRE, ...tls, minVersion: "TLSv1.2" }, handler);

async function registerAll(
  app: FastifyInstance,
  parts: ServerParts,
  tcp: TcpAccess | undefined,
): Promise<void> {
  const stateOf: StateOf = (vm) => parts.supervisor.lookUp(vm)?.state;
  await app.register(problems, { stateOf });
  await app.register(websocket, { options: { maxPayload: BODY_LIMIT } });
  if (tcp === undefined) await app.register(socketAccess);
  else await app.register(tcpAccess, tcp);
  app.addHook("onResponse", logChanges);
  const answers = new Answers(parts.db);
  const dispatcher = makeDispatcher(makeHandlers(parts), { answers, paths: parts.paths });
  await app.register(operationRoutes, { dispatcher });
  await app.register(rpcRoutes, { dispatcher, stateOf });
}

/** Who has asked for what; looking is no news. */
async function logChanges(request: FastifyRequest, reply: FastifyReply): Promise<void> {
  const { method, url, principal: by } = request;
  if (method !== "GET")
    request.log.info({ reqId: request.id, method, url, by, status: reply.statusCode }, "asked");
}

/** The digest of the file's first line; throws VmError naming the file. */
export function readTokenFile(tokenFile: string): Buffer {
  const line = readNamed(tokenFile).toString("utf8").split("\n")[0]?.trim();
  if (line === undefined || line.length < 16)
    throw new VmError("REQUEST_INVALID", [
      tokenFile,
      "its first line must have 16 characters or more",
    ]);
  return tokenDigest(line);
}

/** Throws FILE_UNREADABLE, naming the file. */
export function readNamed(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new VmError("FILE_UNREADABLE", [path, reasonOf(error)], { cause: error });
  }
}

export interface SocketOptions {
  readonly mode: number;
  /** A name or number; the daemon's own where undefined. */
  readonly group: string | undefined;
}

/** Clients that wait to be accepted; the host may allow fewer (Linux: net.core.somaxconn). */
const BACKLOG = 4096;

/** A socket left by a daemon that is gone is replaced, a live one is not. */
export async function listenOnSocket(
  app: FastifyInstance,
  path: string,
  { mode, group }: SocketOptions,
): Promise<void> {
  if (await answers(path)) throw new VmError("SOCKET_TAKEN", [path]);
  rmSync(path, { force: true });
  const before = process.umask(0o177);
  try {
    await app.listen({ path, backlog: BACKLOG });
  } finally {
    process.umask(before);
  }
  if (group !== undefined) giveToGroup(path, group);
  chmodSync(path, mode);
}

/** By chgrp(1), which knows the names of groups wherever they come from. */
function giveToGroup(path: string, group: string): void {
  try {
    execFileSync("chgrp", ["--", group, path], { stdio: ["ignore", "ignore", "pipe"] });
  } catch (error) {
    const { stderr } = error as { stderr?: Buffer };
    const why = stderr?.toString().trim() ?? String(error);
    throw new VmError("REQUEST_INVALID", ["--socket-group", why], { cause: error });
  }
}

const answers = (path: string): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(path);
    const finish = (live: boolean) => (): void => {
      socket.destroy();
      resolve(live);
    };
    socket.once("connect", finish(true));
    socket.once("error", finish(false));
  });
