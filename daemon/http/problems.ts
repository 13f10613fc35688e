// Failures as RFC 9457 problem details, from the one table of errors.
import type { Socket } from "node:net";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import fp from "fastify-plugin";
import {
  actionsIn,
  asVmError,
  InvalidRequest,
  type Problem,
  VmError,
  type VmPower,
} from "../../api-schema/index.js";

import { methodAndPath, operationIds, specOf } from "../../api-schema/operations.js";

/** Bytes; far above any definition. */
export const BODY_LIMIT = 2 ** 20;
const PROBLEM = "application/problem+json";

/** The state that the VM of a path is in; undefined where there is none of that name. */
export type StateOf = (vm: string) => VmPower | undefined;

/** `state`: of the VM that the request was about. */
export function problemOf(error: VmError, requestId: string, state?: VmPower): Problem {
  return {
    type: `urn:xhyved:error:${error.code}`,
    title: error.code.toLowerCase().replaceAll("_", " "),
    status: error.http,
    detail: error.message,
    code: error.code,
    requestId,
    ...(error instanceof InvalidRequest ? { errors: [...error.problems] } : {}),
    ...(state === undefined ? {} : { state, actions: [...actionsIn(state)] }),
  };
}

/** Seconds (RFC 9110 §10.2.3). */
const RETRY_AFTER: Readonly<Partial<Record<number, string>>> = { 429: "1", 503: "1" };

export function sendProblem(
  error: VmError,
  request: FastifyRequest,
  reply: FastifyReply,
  state?: VmPower,
): void {
  const retry = RETRY_AFTER[error.http];
  if (retry !== undefined) void reply.header("retry-after", retry);
  if (error.http === 401) void reply.header("www-authenticate", 'Bearer realm="xhyved"');
  void reply
    .code(error.http)
    .header("content-type", PROBLEM)
    .send(JSON.stringify(problemOf(error, String(request.id), state)));
}

/** What was thrown, in our words: Fastify's own refusals have codes of their own. */
export function knownError(error: unknown, mediaType = "none"): VmError {
  const message = error instanceof Error ? error.message : String(error);
  switch ((error as { code?: string }).code) {
    case "FST_ERR_CTP_BODY_TOO_LARGE":
      return new VmError("REQUEST_TOO_LARGE", [BODY_LIMIT]);
    case "FST_ERR_CTP_INVALID_JSON_BODY":
    case "FST_ERR_CTP_EMPTY_JSON_BODY":
      return new VmError("REQUEST_NOT_JSON", [message]);
    case "FST_ERR_CTP_INVALID_MEDIA_TYPE":
      return new VmError("MEDIA_TYPE", [mediaType.slice(0, 100)]);
    case "FST_ERR_CTP_INVALID_CONTENT_LENGTH":
      return new VmError("REQUEST_INVALID", ["content-length", message]);
    case "FST_ERR_BAD_URL":
    case "FST_ERR_MAX_PARAM_LENGTH":
      return new VmError("REQUEST_INVALID", ["path", message.slice(0, 200)]);
    default:
      return error instanceof SyntaxError
        ? new VmError("REQUEST_NOT_JSON", [message])
        : asVmError(error);
  }
}

/** What the parser could not read: there is no request yet, and so no reply to send by. */
export function refuseNonHttp(error: { code?: string; message: string }, socket: Socket): void {
  if (error.code === "ECONNRESET" || socket.destroyed || !socket.writable) return;
  // The request before it said that it is the last one: that one's answer is under way, or was given.
  if (error.code === "HPE_CLOSED_CONNECTION") return;
  const known = connectionError(error);
  const body = JSON.stringify(problemOf(known, "-"));
  socket.end(
    `HTTP/1.1 ${known.http} ${REASONS[known.http] ?? "Error"}\r\nconnection: close\r\n` +
      `content-type: ${PROBLEM}\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  );
}

/** RFC 9110 §15, RFC 6585 §5. */
const REASONS: Readonly<Partial<Record<number, string>>> = {
  400: "Bad Request",
  408: "Request Timeout",
  431: "Request Header Fields Too Large",
};

/** Node's own codes for what it gives up on. */
function connectionError({ code, message }: { code?: string; message: string }): VmError {
  if (code === "HPE_HEADER_OVERFLOW") return new VmError("HEADERS_TOO_LARGE", [HEADER_LIMIT]);
  if (code === "ERR_HTTP_REQUEST_TIMEOUT") return new VmError("REQUEST_TIMEOUT");
  return new VmError("REQUEST_NOT_HTTP", [message]);
}

/** Bytes of all headers together. */
export const HEADER_LIMIT = 16 * 1024;

/** Of a path that there is, the methods that it takes are told (RFC 9110 §15.5.6). */
function noRoute({ method, url }: FastifyRequest, reply: FastifyReply): VmError {
  const path = url.split("?")[0] ?? url;
  const methods = operationIds
    .map((id) => methodAndPath(specOf(id)))
    .filter(([, template]) => patternOf(template).test(path))
    .map(([one]) => one);
  if (methods.length === 0) return new VmError("ROUTE_NOT_FOUND", [method, url.slice(0, 200)]);
  void reply.header("allow", methods.join(", "));
  return new VmError("METHOD_NOT_ALLOWED", [path.slice(0, 200), method, methods.join(", ")]);
}

const patternOf = (template: string): RegExp =>
  new RegExp(`^${template.replaceAll(".", "\\.").replace(/\{[a-z]+\}/g, "[^/]+")}$`);

export interface ProblemOptions {
  readonly stateOf: StateOf;
}

export const problems = fp(
  async (app: FastifyInstance, { stateOf }: ProblemOptions) => {
    app.setErrorHandler((error, request, reply) => {
      const known = knownError(error, request.headers["content-type"]);
      if (known.http >= 500)
        request.log.error({ reqId: request.id, err: error }, "a request failed");
      const { vm } = (request.params ?? {}) as { vm?: string };
      // Who may not look is not told what there is.
      const told = vm !== undefined && known.http !== 401 && known.http !== 403;
      sendProblem(known, request, reply, told ? stateOf(vm) : undefined);
    });
    app.setNotFoundHandler((request, reply) =>
      sendProblem(noRoute(request, reply), request, reply),
    );
  },
  { name: "problems" },
);
