// The HTTP server: one instance for each thing it listens on, with the same routes.
import { createHash, timingSafeEqual } from "node:crypto";
import { chmodSync, readFileSync, rmSync } from "node:fs";
import { connect } from "node:net";
import websocket from "@fastify/websocket";
import Fastify, {
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyRequest,
} from "fastify";
import type { Logger } from "pino";
import { VmError } from "../../api-schema/index.js";
import type { EventLog } from "../events/event-log.js";
import type { Operations } from "../operations/operations.js";
import type { Database } from "../registry/database.js";
import type { TcpSettings } from "../settings.js";
import type { Supervisor } from "../supervisor/supervisor.js";
import type { VmFolders } from "../supervisor/vm-folders.js";
import type { Principal } from "./call.js";
import { makeDispatcher } from "./dispatch.js";
import { makeHandlers } from "./handlers/index.js";
import {
  BODY_LIMIT,
  knownError,
  problems,
  refuseNonHttp,
  type StateOf,
  sendProblem,
} from "./problems.js";
import { operationRoutes } from "./routes.js";
import { rpcRoutes } from "./rpc-routes.js";

declare module "fastify" {
  interface FastifyRequest {
    principal: Principal;
  }
}

export interface ServerParts {
  readonly db: Database;
  readonly supervisor: Supervisor;
  readonly folders: VmFolders;
  readonly events: EventLog;
  readonly operations: Operations;
  readonly log: Logger;
  readonly version: string;
}

export async function buildServer(parts: ServerParts, token?: Buffer): Promise<FastifyInstance> {
  const app = Fastify({
    loggerInstance: parts.log as FastifyBaseLogger,
    bodyLimit: BODY_LIMIT,
    forceCloseConnections: true,
    exposeHeadRoutes: false,
    frameworkErrors: (error, request, reply) => sendProblem(knownError(error), request, reply),
    clientErrorHandler: refuseNonHttp,
  });
  const stateOf: StateOf = (vm) => parts.supervisor.lookUp(vm)?.state;
  await app.register(problems, { stateOf });
  await app.register(websocket, { options: { maxPayload: BODY_LIMIT } });
  app.decorateRequest("principal");
  app.addHook("onRequest", token === undefined ? whoConnected : requireToken(token));
  const dispatcher = makeDispatcher(makeHandlers(parts));
  await app.register(operationRoutes, { dispatcher });
  await app.register(rpcRoutes, { dispatcher, stateOf });
  await app.ready();
  return app;
}

async function whoConnected(request: FastifyRequest): Promise<void> {
  request.principal = { kind: "socket", scope: "admin", uid: -1, pid: -1 };
}

const digest = (text: string): Buffer => createHash("sha256").update(text).digest();

/** Tokens are compared as digests, in constant time. */
const requireToken =
  (token: Buffer) =>
  async (request: FastifyRequest): Promise<void> => {
    const given = /^Bearer (.+)$/.exec(request.headers.authorization ?? "")?.[1];
    if (given === undefined || !timingSafeEqual(digest(given), token))
      throw new VmError("UNAUTHORIZED");
    request.principal = { kind: "token", scope: "admin", name: "file" };
  };

/** The digest of the file's first line; throws VmError naming the file. */
export function readToken({ tokenFile }: TcpSettings): Buffer {
  let line: string | undefined;
  try {
    line = readFileSync(tokenFile, "utf8").split("\n")[0]?.trim();
  } catch (error) {
    throw new VmError("FILE_UNREADABLE", [tokenFile, String(error)], { cause: error });
  }
  if (line === undefined || line.length < 16)
    throw new VmError("REQUEST_INVALID", [
      tokenFile,
      "its first line must have 16 characters or more",
    ]);
  return digest(line);
}

/** Listens with mode 0600; a socket left by a daemon that is gone is replaced, a live one is not. */
export async function listenOnSocket(app: FastifyInstance, path: string): Promise<void> {
  if (await answers(path)) throw new VmError("SOCKET_TAKEN", [path]);
  rmSync(path, { force: true });
  const before = process.umask(0o177);
  try {
    await app.listen({ path });
  } finally {
    process.umask(before);
  }
  chmodSync(path, 0o600);
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
