// The OpenAPI 3.1 document, made from the table of operations. What a client sends is described as
// it may send it (a member with a default may be left out), what it gets as it gets it (whole).
import type { TSchema } from "@sinclair/typebox";
import { vmActions } from "./actions.js";
import { Problem } from "./daemon-api.js";
import { type ErrorCode, errorSpecs } from "./errors.js";
import {
  type AnswerSpec,
  errorsOf,
  IdempotencyKeyHeader,
  IfMatchHeader,
  methodAndPath,
  type OperationSpec,
  operationIds,
  specOf,
  tags,
  takesKey,
} from "./operations.js";
import { RpcBody, RpcReply } from "./rpc.js";
import { count } from "./shape.js";

type Json = Readonly<Record<string, unknown>>;
type Direction = "given" | "answered";

/** Schemas with a `$id` become components, each under one name. */
class Components {
  readonly schemas: Record<string, unknown> = {};

  of(schema: TSchema, direction: Direction): unknown {
    if (typeof schema.$id !== "string") return this.#plain(schema, direction);
    const name = this.#nameOf(schema, schema.$id, direction);
    this.schemas[name] ??= this.#plain(schema, direction);
    return { $ref: `#/components/schemas/${name}` };
  }

  #nameOf(schema: TSchema, id: string, direction: Direction): string {
    const aside = new Components(); // what is only compared is no component of the document
    const [given, answered] = (["given", "answered"] as const).map((one) =>
      JSON.stringify(aside.#plain(schema, one)),
    );
    const same = given === answered;
    return direction === "answered" || same || id.startsWith("Create") ? id : `${id}Given`;
  }

  #plain(value: unknown, direction: Direction): unknown {
    if (Array.isArray(value)) return value.map((one) => this.#inner(one, direction));
    if (typeof value !== "object" || value === null) return value;
    const { $id: _, required, ...rest } = value as TSchema;
    const members = Object.entries(rest).map(([name, member]) => [
      name,
      name === "default" || name === "const" ? member : this.#inner(member, direction),
    ]);
    const needed = this.#required(value as TSchema, required, direction);
    return {
      ...Object.fromEntries(members),
      ...(needed === undefined ? {} : { required: needed }),
    };
  }

  #inner(value: unknown, direction: Direction): unknown {
    const named = typeof value === "object" && value !== null && "$id" in value;
    return named ? this.of(value as TSchema, direction) : this.#plain(value, direction);
  }

  /** A property that is itself called `required` is no list and stays as it is. */
  #required({ properties }: TSchema, required: unknown, direction: Direction): unknown {
    if (!Array.isArray(required))
      return required === undefined ? undefined : this.#inner(required, direction);
    if (direction === "answered") return required;
    const needed = required.filter((name: string) => properties?.[name]?.default === undefined);
    return needed.length === 0 ? undefined : needed;
  }
}

function parameters(components: Components, spec: OperationSpec): Json[] {
  const of = (schema: TSchema | undefined, where: "path" | "query"): Json[] =>
    Object.entries<TSchema>(schema?.properties ?? {}).map(([name, one]) => ({
      name,
      in: where,
      required: where === "path" || (schema?.required ?? []).includes(name),
      ...(one.default === undefined ? {} : { required: false }),
      description: typeof one.description === "string" ? one.description : `the ${name}`,
      schema: components.of(one, "given"),
    }));
  const header = (name: string, schema: TSchema): Json => ({
    name,
    in: "header",
    required: false,
    description: schema.description,
    schema: components.of(schema, "given"),
  });
  return [
    ...of(spec.path, "path"),
    ...of(spec.query, "query"),
    ...(spec.conditional === true ? [header("If-Match", IfMatchHeader)] : []),
    ...(spec.answer.kind === "events" ? [header("Last-Event-ID", count)] : []),
    ...(takesKey(spec) ? [header("Idempotency-Key", IdempotencyKeyHeader)] : []),
  ];
}

const jsonContent = (schema: unknown): Json => ({ "application/json": { schema } });

function successes(components: Components, answer: AnswerSpec): Json {
  switch (answer.kind) {
    case "json": {
      const body = {
        headers: jsonHeaders(answer),
        content: jsonContent(components.of(answer.schema, "answered")),
      };
      const statuses = [answer.status, ...(answer.or === undefined ? [] : [answer.or])];
      return Object.fromEntries(
        statuses.map((status) => [status, { description: SUCCESS[status], ...body }]),
      );
    }
    case "nothing":
      return { 204: { description: SUCCESS[204] } };
    case "raw":
      return { 200: rawSuccess(components, answer) };
    case "events":
      return {
        200: {
          description: "Server-sent events; the `data` of each is JSON of the content's schema.",
          content: {
            "text/event-stream": {
              schema: {
                type: "string",
                contentMediaType: "application/json",
                contentSchema: components.of(answer.schema, "answered"),
              },
            },
          },
        },
      };
    case "websocket":
      return { 101: { description: "A WebSocket is open." } };
  }
}

const SUCCESS = {
  200: "Done.",
  201: "Made.",
  202: "Accepted: it goes on.",
  204: "Done; there is nothing to say.",
} as const;

function jsonHeaders({ etag, location }: AnswerSpec & { kind: "json" }): Json {
  return {
    ...(etag === true
      ? { ETag: { description: "the generation, in quotes", schema: { type: "string" } } }
      : {}),
    ...(location === undefined
      ? {}
      : { Location: { description: "where it is, if it is new", schema: { type: "string" } } }),
  };
}

function rawSuccess(
  components: Components,
  { mediaType, headers = {} }: AnswerSpec & { kind: "raw" },
): Json {
  const text = mediaType.startsWith("text/");
  return {
    description: SUCCESS[200],
    headers: Object.fromEntries(
      Object.entries(headers).map(([key, { name, schema }]) => [
        name,
        { description: `the ${key}`, schema: components.of(schema, "answered") },
      ]),
    ),
    content: { [mediaType]: { schema: text ? { type: "string" } : {} } },
  };
}

function failures(components: Components, codes: readonly ErrorCode[]): Json {
  const statuses = [...new Set(codes.map((code) => errorSpecs[code].http))].sort();
  return Object.fromEntries(
    statuses.map((status) => {
      const here = codes.filter((code) => errorSpecs[code].http === status);
      const schema = {
        allOf: [
          components.of(Problem, "answered"),
          { type: "object", properties: { code: { enum: here } } },
        ],
      };
      const description = here.map((code) => `${code}: ${errorSpecs[code].text}`).join("; ");
      const content = { "application/problem+json": { schema } };
      return [status, { description: description.replaceAll("%s", "…"), content }];
    }),
  );
}

function describe(spec: OperationSpec): string {
  const states = spec.action === undefined ? undefined : vmActions[spec.action];
  return [
    spec.details ?? `${spec.summary}.`,
    states === undefined ? "" : `Allowed where the VM is ${states.do.join(", ")}.`,
    states !== undefined && states.already.length > 0
      ? `Where it is ${states.already.join(", ")} there is nothing to do.`
      : "",
    spec.answer.kind === "websocket" ? "Not a JSON-RPC method." : "",
  ]
    .filter((text) => text !== "")
    .join(" ");
}

function operationObject(components: Components, id: string, spec: OperationSpec): Json {
  const given = parameters(components, spec);
  return {
    operationId: id,
    tags: [spec.tag],
    summary: spec.summary,
    description: describe(spec),
    security: spec.scope === "none" ? [] : [{ token: [spec.scope] }],
    ...(given.length === 0 ? {} : { parameters: given }),
    ...(spec.body === undefined ? {} : { requestBody: requestBody(components, spec.body) }),
    responses: {
      ...successes(components, spec.answer),
      ...failures(components, errorsOf(spec)),
    },
    ...(spec.action === undefined ? {} : { "x-states": vmActions[spec.action].do }),
  };
}

const requestBody = (components: Components, body: TSchema): Json => ({
  required: Array.isArray(body.required) && body.required.length > 0,
  content: jsonContent(components.of(body, "given")),
});

/** POST /rpc: not an operation, but a way to all of them. */
const rpcPath = (components: Components): Json => ({
  get: {
    operationId: "openRpcSocket",
    tags: ["rpc"],
    summary: "JSON-RPC 2.0 over a WebSocket",
    description: "One request or batch in each text frame; events come as notifications.",
    security: [{ token: ["read"] }],
    responses: {
      101: { description: "A WebSocket is open." },
      ...failures(components, ["UNAUTHORIZED", "UPGRADE_REQUIRED", "INTERNAL"]),
    },
  },
  post: {
    operationId: "callRpc",
    tags: ["rpc"],
    summary: "JSON-RPC 2.0",
    description:
      "Methods are the operation ids; params have the path's and the query's parameters by name, `body`, `ifMatch` and `idempotencyKey`. Each operation asks for its own scope.",
    security: [{ token: ["read"] }],
    requestBody: { required: true, content: jsonContent(components.of(RpcBody, "given")) },
    responses: {
      200: {
        description: "An answer, or those of a batch.",
        content: jsonContent(components.of(RpcReply, "answered")),
      },
      204: { description: "Only notifications were sent." },
      ...failures(components, ["UNAUTHORIZED", "MEDIA_TYPE", "REQUEST_TOO_LARGE", "INTERNAL"]),
    },
  },
});

/** The whole document, for a daemon of this version. */
export function openApiDocument(version: string): Json {
  const components = new Components();
  const paths: Record<string, Record<string, unknown>> = {};
  for (const id of operationIds) {
    const [method, path] = methodAndPath(specOf(id));
    paths[path] ??= {};
    const item = paths[path];
    item[method.toLowerCase()] = operationObject(components, id, specOf(id));
  }
  paths["/rpc"] = { ...rpcPath(components) };
  return {
    openapi: "3.1.0",
    info: {
      title: "xhyved",
      version,
      summary: "A daemon that runs virtual machines",
      description:
        "REST under /v1, and the same operations as JSON-RPC 2.0 at /rpc. Failures are problem details (RFC 9457) with a stable `code`.",
      license: { name: "BSD-2-Clause", identifier: "BSD-2-Clause" },
    },
    servers: [{ url: "/", description: "the Unix socket, or TCP with a token" }],
    tags: Object.entries(tags).map(([name, description]) => ({ name, description })),
    paths,
    components: {
      schemas: components.schemas,
      securitySchemes: {
        token: {
          type: "http",
          scheme: "bearer",
          description:
            "Over TCP only; scopes are read, operate and admin, each with those before. Whoever may open the Unix socket may do all.",
        },
      },
    },
  };
}
