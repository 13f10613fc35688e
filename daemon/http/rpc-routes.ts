// The path of JSON-RPC: POST for one request or batch, GET for a WebSocket.
import type { FastifyInstance, FastifyRequest } from "fastify";
import { VmError } from "../../api-schema/index.js";
import { RPC_PATH } from "../../api-schema/rpc.js";
import type { CallContext } from "./call.js";
import type { Dispatcher } from "./dispatch.js";
import type { StateOf } from "./problems.js";
import { contextOf } from "./routes.js";
import { answerRpc } from "./rpc.js";
import { RpcSocket } from "./rpc-socket.js";

interface Options {
  readonly dispatcher: Dispatcher;
  readonly stateOf: StateOf;
}

export async function rpcRoutes(app: FastifyInstance, options: Options): Promise<void> {
  app.removeContentTypeParser("application/json");
  // What is no JSON is answered in JSON-RPC's own way (§5.1): it is parsed there.
  app.addContentTypeParser("application/json", { parseAs: "string" }, (_request, body, done) =>
    done(null, body),
  );
  app.post(RPC_PATH, async (request, reply) => {
    const text = typeof request.body === "string" ? request.body : "";
    const answer = await answerRpc(text, { ...options, context: contextOf(request, reply.raw) });
    if (answer === undefined) return reply.code(204).send();
    return reply
      .header("content-type", "application/json; charset=utf-8")
      .send(JSON.stringify(answer));
  });
  app.route({
    method: "GET",
    url: RPC_PATH,
    handler: async (_request, reply) => {
      void reply.header("upgrade", "websocket");
      throw new VmError("UPGRADE_REQUIRED");
    },
    wsHandler: (socket, request) =>
      new RpcSocket(socket, { ...options, context: socketContext(socket, request) }).run(),
  });
}

/** Lives as long as the socket. */
const socketContext = (
  socket: { once(event: "close", gone: () => void): unknown },
  request: FastifyRequest,
): CallContext => contextOf(request, socket);
