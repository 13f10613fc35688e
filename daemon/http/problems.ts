// Failures as RFC 9457 problem details, from the one table of errors.
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import fp from "fastify-plugin";
import { asVmError, type Problem, VmError } from "../../api-schema/index.js";

const problemOf = (error: VmError, request: FastifyRequest): Problem => ({
  type: `urn:xhyved:error:${error.code}`,
  title: error.code.toLowerCase().replaceAll("_", " "),
  status: error.http,
  detail: error.message,
  code: error.code,
  requestId: String(request.id),
});

export function sendProblem(error: VmError, request: FastifyRequest, reply: FastifyReply): void {
  void reply
    .code(error.http)
    .header("content-type", "application/problem+json")
    .send(JSON.stringify(problemOf(error, request)));
}

/** Fastify's own refusals, in our words. */
function translate(error: unknown, request: FastifyRequest): VmError {
  const code = (error as { code?: string }).code;
  const message = error instanceof Error ? error.message : String(error);
  switch (code) {
    case "FST_ERR_CTP_BODY_TOO_LARGE":
      return new VmError("REQUEST_TOO_LARGE", [request.server.initialConfig.bodyLimit ?? 0]);
    case "FST_ERR_CTP_INVALID_JSON_BODY":
    case "FST_ERR_CTP_EMPTY_JSON_BODY":
      return new VmError("REQUEST_NOT_JSON", [message]);
    case "FST_ERR_CTP_INVALID_MEDIA_TYPE":
    case "FST_ERR_CTP_INVALID_CONTENT_LENGTH":
      return new VmError("REQUEST_INVALID", ["content-type", message]);
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

export const problems = fp(
  async (app: FastifyInstance) => {
    app.setErrorHandler((error, request, reply) => {
      const known = translate(error, request);
      if (known.http >= 500) request.log.error({ err: error }, "a request failed");
      sendProblem(known, request, reply);
    });
    app.setNotFoundHandler((request, reply) =>
      sendProblem(new VmError("ROUTE_NOT_FOUND", [request.method, request.url]), request, reply),
    );
  },
  { name: "problems" },
);
