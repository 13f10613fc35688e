// Failures as RFC 9457 problem details, from the one table of errors.
import type { Socket } from "node:net";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import fp from "fastify-plugin";
import { asVmError, type Problem, VmError } from "../../api-schema/index.js";

/** Bytes; far above any definition. */
export const BODY_LIMIT = 2 ** 20;
const PROBLEM = "application/problem+json";

const problemOf = (error: VmError, requestId: string): Problem => ({
  type: `urn:xhyved:error:${error.code}`,
  title: error.code.toLowerCase().replaceAll("_", " "),
  status: error.http,
  detail: error.message,
  code: error.code,
  requestId,
});

export function sendProblem(error: VmError, request: FastifyRequest, reply: FastifyReply): void {
  void reply
    .code(error.http)
    .header("content-type", PROBLEM)
    .send(JSON.stringify(problemOf(error, String(request.id))));
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
    case "FST_ERR_VALIDATION":
      return error instanceof Error && error.cause instanceof VmError
        ? error.cause
        : new VmError("REQUEST_INVALID", ["request", message]);
    default:
      return error instanceof SyntaxError
        ? new VmError("REQUEST_NOT_JSON", [message])
        : asVmError(error);
  }
}

/** What the parser could not read: there is no request yet, and so no reply to send by. */
export function refuseNonHttp(error: { code?: string; message: string }, socket: Socket): void {
  if (error.code === "ECONNRESET" || socket.destroyed) return;
  const known = new VmError("REQUEST_NOT_HTTP", [error.message]);
  const body = JSON.stringify(problemOf(known, "-"));
  socket.end(
    `HTTP/1.1 ${known.http} Bad Request\r\nconnection: close\r\n` +
      `content-type: ${PROBLEM}\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  );
}

export const problems = fp(
  async (app: FastifyInstance) => {
    app.setErrorHandler((error, request, reply) => {
      const known = knownError(error, request.headers["content-type"]);
      if (known.http >= 500) request.log.error({ err: error }, "a request failed");
      sendProblem(known, request, reply);
    });
    app.setNotFoundHandler((request, reply) =>
      sendProblem(new VmError("ROUTE_NOT_FOUND", [request.method, request.url]), request, reply),
    );
  },
  { name: "problems" },
);
