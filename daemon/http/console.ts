// The console: history by byte offset over plain HTTP, and both ways over a WebSocket. The VM
// process writes the history itself, so it is there whether or not anything runs.
import type { FastifyInstance } from "fastify";
import type { WebSocket } from "ws";
import { readConsoleLog } from "../../api-schema/console-log.js";
import { ConsoleQuery, StreamQuery, VmError, VmPath } from "../../api-schema/index.js";
import type { Supervisor } from "../supervisor/supervisor.js";
import type { VmFolders } from "../supervisor/vm-folders.js";
import { ConsoleStream } from "./console-stream.js";

interface Options {
  readonly supervisor: Supervisor;
  readonly folders: VmFolders;
}

export async function consoleRoutes(
  app: FastifyInstance,
  { supervisor, folders }: Options,
): Promise<void> {
  app.get<{ Params: { vm: string }; Querystring: { offset: number; length: number } }>(
    "/vms/:vm/console",
    { schema: { params: VmPath, querystring: ConsoleQuery } },
    async (request, reply) => {
      const base = folders.console(supervisor.find(request.params.vm).uuid);
      const { length } = request.query;
      const offset = fromEnd(base, request.query.offset);
      const read = readConsoleLog(base, offset, length);
      return reply
        .header("content-type", "application/octet-stream")
        .header("x-console-offset", read.offset)
        .header("x-console-first", read.first)
        .header("x-console-end", read.end)
        .send(Buffer.from(read.bytes));
    },
  );

  app.route<{ Params: { vm: string }; Querystring: { offset?: number } }>({
    method: "GET",
    url: "/vms/:vm/console/stream",
    schema: { params: VmPath, querystring: StreamQuery },
    // Before the upgrade: a refusal is then an answer like any other.
    preHandler: async (request) => {
      if (!supervisor.find(request.params.vm).hasConsole) throw new VmError("CONSOLE_NONE");
    },
    handler: async (_request, reply) => {
      void reply.header("upgrade", "websocket");
      throw new VmError("UPGRADE_REQUIRED");
    },
    wsHandler: (socket: WebSocket, request) => {
      const { uuid, console: feed } = supervisor.find(request.params.vm);
      const base = folders.console(uuid);
      const wanted = request.query.offset ?? readConsoleLog(base, 0, 0).end;
      const offset = fromEnd(base, wanted);
      new ConsoleStream(socket, { feed, base, offset, log: request.log }).run();
    },
  });
}

const fromEnd = (base: string, offset: number): number =>
  offset >= 0 ? offset : Math.max(0, readConsoleLog(base, 0, 0).end + offset);
