// The table of operations as routes: one for each row, and nothing else.
import type { FastifyBaseLogger, FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { WebSocket } from "ws";
import { VmError } from "../../api-schema/index.js";
import {
  type AnswerSpec,
  methodAndPath,
  type OperationId,
  type OperationSpec,
  operationIds,
  specOf,
} from "../../api-schema/operations.js";
import { type CallContext, type Principal, type RawReply, Reply } from "./call.js";
import type { Dispatcher, Given } from "./dispatch.js";
import { sendEvents } from "./events.js";

declare module "fastify" {
  interface FastifyRequest {
    /** What a WebSocket does once it is open. */
    runSocket: ((socket: WebSocket) => void) | undefined;
  }
}

export async function operationRoutes(
  app: FastifyInstance,
  { dispatcher }: { dispatcher: Dispatcher },
): Promise<void> {
  app.decorateRequest("runSocket", undefined);
  for (const id of operationIds) addRoute(app, dispatcher, id, specOf(id));
}

/** OpenAPI's {name} is :name here. */
export const routePath = (path: string): string => path.replace(/\{([a-z]+)\}/g, ":$1");

function addRoute(
  app: FastifyInstance,
  dispatcher: Dispatcher,
  id: OperationId,
  spec: OperationSpec,
): void {
  const [method, path] = methodAndPath(spec);
  const url = routePath(path);
  const call = (request: FastifyRequest, reply: FastifyReply): Promise<unknown> =>
    dispatcher.call(id, givenBy(request), contextOf(request, reply.raw));
  if (spec.answer.kind === "websocket")
    app.route({
      method,
      url,
      // Before the upgrade: a refusal is then an answer like any other.
      preHandler: async (request, reply) => {
        request.runSocket = (await call(request, reply)) as (socket: WebSocket) => void;
      },
      handler: async (_request, reply) => {
        void reply.header("upgrade", "websocket");
        throw new VmError("UPGRADE_REQUIRED");
      },
      wsHandler: (socket: WebSocket, request: FastifyRequest) => request.runSocket?.(socket),
    });
  else
    app.route({
      method,
      url,
      config: { open: spec.scope === "none" },
      handler: async (request, reply) => send(reply, spec.answer, await call(request, reply)),
    });
}

const givenBy = (request: FastifyRequest): Given => ({
  path: request.params,
  query: withLastSeen(request.query, oneOf(request.headers["last-event-id"])),
  body: request.body,
  ifMatch: request.headers["if-match"],
  idempotencyKey: oneOf(request.headers["idempotency-key"]),
});

/** What a client that comes back has seen last; rows without events take no such query. */
const withLastSeen = (query: unknown, last: string | undefined): unknown =>
  last === undefined ? query : { ...(query as object), after: last };

const oneOf = (header: string | string[] | undefined): string | undefined =>
  Array.isArray(header) ? header.join(",") : header;

interface Wire {
  once(event: "close", gone: () => void): unknown;
}

/** A class: its members are looked at by every request, its signal by few. */
class RequestContext implements CallContext {
  readonly principal: Principal;
  readonly log: FastifyBaseLogger;
  readonly requestId: string;
  readonly #wire: Wire;
  #gone: AbortController | undefined;

  constructor({ principal, log, id }: FastifyRequest, wire: Wire) {
    this.principal = principal;
    this.log = log;
    this.requestId = id;
    this.#wire = wire;
  }

  /** Made for those who look: it costs as much as the rest of a plain request. */
  get signal(): AbortSignal {
    if (this.#gone === undefined) {
      const made = new AbortController();
      this.#wire.once("close", () => made.abort());
      this.#gone = made;
    }
    return this.#gone.signal;
  }
}

/** `wire`: what closes when the client goes. */
export const contextOf = (request: FastifyRequest, wire: Wire): CallContext =>
  new RequestContext(request, wire);

function send(reply: FastifyReply, answer: AnswerSpec, outcome: unknown): FastifyReply {
  switch (answer.kind) {
    case "json":
      return sendJson(reply, answer, outcome);
    case "nothing":
      return reply.code(answer.status).send();
    case "raw":
      return sendRaw(reply, answer, outcome as RawReply);
    case "events":
      return sendEvents(reply, outcome as Parameters<typeof sendEvents>[1]);
    case "websocket":
      throw new VmError("UPGRADE_REQUIRED");
  }
}

function sendJson(
  reply: FastifyReply,
  { status, etag, location }: AnswerSpec & { kind: "json" },
  outcome: unknown,
): FastifyReply {
  const chosen = outcome instanceof Reply ? outcome.status : status;
  const body = (outcome instanceof Reply ? outcome.body : outcome) as Record<string, unknown>;
  if (etag === true) void reply.header("etag", `"${String(body.generation)}"`);
  if (location !== undefined && chosen !== 200)
    void reply.header("location", filledIn(location, body));
  return reply
    .code(chosen)
    .header("content-type", "application/json; charset=utf-8")
    .send(jsonOf(body));
}

/** Of views, which stay the same objects while nothing changes, the text is kept. */
const texts = new WeakMap<object, string>();

function textOf(view: object): string {
  let text = texts.get(view);
  if (text === undefined) {
    text = JSON.stringify(view);
    texts.set(view, text);
  }
  return text;
}

const isVm = (body: object): boolean => "definition" in body && "status" in body;

function jsonOf(body: Readonly<Record<string, unknown>>): string {
  const { vms, ...rest } = body;
  if (!Array.isArray(vms)) return isVm(body) ? textOf(body) : JSON.stringify(body);
  const more = JSON.stringify(rest).slice(1);
  return `{"vms":[${vms.map((vm: object) => textOf(vm)).join(",")}]${more === "}" ? "" : ","}${more}`;
}

const filledIn = (template: string, values: Readonly<Record<string, unknown>>): string =>
  template.replace(/\{([a-z]+)\}/g, (_, name: string) => encodeURIComponent(String(values[name])));

function sendRaw(
  reply: FastifyReply,
  { mediaType, headers = {} }: AnswerSpec & { kind: "raw" },
  { bytes, mediaType: chosen = mediaType, headers: values = {} }: RawReply,
): FastifyReply {
  void reply.header("content-type", chosen);
  for (const [key, value] of Object.entries(values)) {
    const name = headers[key]?.name;
    if (name !== undefined) void reply.header(name, value);
  }
  return reply.send(bytes);
}
