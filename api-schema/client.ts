// A client of the daemon, with the types of the table of operations:
//
//   const api = new ApiClient(httpTransport({ socket: "/run/xhyved/xhyved.sock" }));
//   const vm = await api.call("startVm", { vm: "web", wait: "running" });
//
// It needs nothing but Node.
import { readFileSync } from "node:fs";
import { type ClientRequest, request as httpRequest, type IncomingMessage } from "node:http";
import { request as httpsRequest } from "node:https";
import type { Static, TSchema } from "@sinclair/typebox";
import type { CreateVm, Problem } from "./daemon-api.js";
import {
  type BodyOf,
  methodAndPath,
  type OperationId,
  type OperationOf,
  type OperationSpec,
  type Operations,
  type PathOf,
  type QueryOf,
  type ResultOf,
  specOf,
} from "./operations.js";

/** A definition as it may be sent: what has a default may be left out, at any depth. */
export type Draft<T> = T extends readonly (infer One)[]
  ? Draft<One>[]
  : T extends object
    ? { [K in keyof T]?: Draft<T[K]> | undefined }
    : T;

/** A definition as it may be sent. */
export type DefinitionDraft = Draft<CreateVm> &
  Pick<CreateVm, "name"> & { readonly boot: CreateVm["boot"] };
type Sent<T> = T extends { readonly boot: unknown; readonly name: unknown } ? DefinitionDraft : T;

type Named<T> = T extends object ? T : Record<never, never>;

/** What an operation takes: parameters of path and query by name, and the rest as in JSON-RPC. */
export type InputOf<Id extends OperationId> = Named<PathOf<Id>> &
  Partial<Named<QueryOf<Id>>> & {
    readonly body?: Sent<BodyOf<Id>> | undefined;
    /** The generation that the VM must have. */
    readonly ifMatch?: number | undefined;
    readonly idempotencyKey?: string | undefined;
  };

type HeadersOf<Id extends OperationId> = Operations[Id]["answer"] extends {
  readonly headers: infer H extends Readonly<Record<string, { readonly schema: TSchema }>>;
}
  ? { readonly [K in keyof H]: Static<H[K]["schema"]> }
  : Record<never, never>;

export interface RawResult<Id extends OperationId> {
  readonly bytes: Buffer;
  readonly headers: HeadersOf<Id>;
}

/** One event of a stream; `sequence` is where to go on after it. */
export interface StreamedEvent<T> {
  readonly sequence: number;
  readonly data: T;
}

/** A refusal of the daemon, or that it could not be reached. */
export class ClientError extends Error {
  override readonly name = "ClientError";
  readonly problem: Problem | undefined;

  constructor(message: string, problem?: Problem, options?: ErrorOptions) {
    super(message, options);
    this.problem = problem;
  }
}

export interface HttpRequest {
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface HttpAnswer {
  readonly status: number;
  readonly headers: IncomingMessage["headers"];
  readonly body: AsyncIterable<Buffer>;
}

/** Sends one request; rejects with ClientError where nobody answers. */
export type Transport = (request: HttpRequest) => Promise<HttpAnswer>;

export interface Target {
  /** A Unix socket; or: */
  readonly socket?: string | undefined;
  /** http://HOST:PORT or https://HOST:PORT */
  readonly url?: string | undefined;
  readonly token?: string | undefined;
  /** A file with the certificate of the authority that the server's is to be checked by. */
  readonly caFile?: string | undefined;
}

export class ApiClient {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Rejects with ClientError, whose `problem` is the daemon's. */
  async call<Id extends OperationOf<"json" | "nothing">>(
    id: Id,
    input: InputOf<Id>,
  ): Promise<ResultOf<Id>> {
    const { body } = await this.#send(id, input);
    const text = (await collected(body)).toString("utf8");
    return (text === "" ? undefined : JSON.parse(text)) as ResultOf<Id>;
  }

  /** For operations that answer with bytes or text. */
  async bytes<Id extends OperationOf<"raw">>(id: Id, input: InputOf<Id>): Promise<RawResult<Id>> {
    const { body, headers } = await this.#send(id, input);
    const { answer } = specOf(id);
    const named = answer.kind === "raw" ? Object.entries(answer.headers ?? {}) : [];
    const values = named.map(([key, { name, schema }]) => {
      const text = String(headers[name] ?? "");
      return [key, schema.type === "integer" ? Number(text) : text];
    });
    return {
      bytes: await collected(body),
      headers: Object.fromEntries(values) as HeadersOf<Id>,
    };
  }

  /** Until the signal, or the daemon ends; goes on after `after`, the last sequence that was seen. */
  async *events<Id extends OperationOf<"events">>(
    id: Id,
    input: InputOf<Id>,
    { after, signal }: { after?: number; signal?: AbortSignal } = {},
  ): AsyncGenerator<StreamedEvent<ResultOf<Id>>> {
    const headers = after === undefined ? {} : { "last-event-id": String(after) };
    const { body } = await this.#send(id, input, { headers, signal });
    for await (const { sequence, data } of serverEvents(body))
      yield { sequence, data: JSON.parse(data) as ResultOf<Id> };
  }

  async #send(
    id: OperationId,
    input: object,
    more: { headers?: Readonly<Record<string, string>>; signal?: AbortSignal | undefined } = {},
  ): Promise<HttpAnswer> {
    const request = requestOf(specOf(id), input as Readonly<Record<string, unknown>>);
    const headers = { ...request.headers, ...more.headers };
    const answer = await this.#transport({ ...request, headers, signal: more.signal });
    if (answer.status < 400) return answer;
    throw refusal(await collected(answer.body), answer.status);
  }
}

/** The request that carries an operation with this input. */
export function requestOf(
  spec: OperationSpec,
  input: Readonly<Record<string, unknown>>,
): HttpRequest {
  const [method, template] = methodAndPath(spec);
  const path = template.replace(/\{([A-Za-z]+)\}/g, (_, name: string) =>
    encodeURIComponent(String(input[name])),
  );
  const query = new URLSearchParams();
  for (const name of Object.keys(spec.query?.properties ?? {})) {
    const value = input[name];
    for (const one of Array.isArray(value) ? value : [value])
      if (one !== undefined) query.append(name, String(one));
  }
  const { body, ifMatch, idempotencyKey } = input;
  return {
    method,
    path: query.size === 0 ? path : `${path}?${query}`,
    headers: {
      ...(body === undefined ? {} : { "content-type": "application/json" }),
      ...(ifMatch === undefined ? {} : { "if-match": `"${String(ifMatch)}"` }),
      ...(idempotencyKey === undefined ? {} : { "idempotency-key": String(idempotencyKey) }),
    },
    body: body === undefined ? undefined : JSON.stringify(body),
  };
}

/** HTTP over a Unix socket, or over TCP with a token. */
export function httpTransport({ socket, url, token, caFile }: Target): Transport {
  const where = new URL(url ?? "http://localhost");
  const authorization = token === undefined ? {} : { authorization: `Bearer ${token}` };
  const target =
    socket === undefined ? { host: where.hostname, port: where.port } : { socketPath: socket };
  const tls = caFile === undefined ? {} : { ca: readFileSync(caFile) };
  const send = where.protocol === "https:" ? httpsRequest : httpRequest;
  return ({ method, path, headers, body, signal }) =>
    new Promise((resolve, reject) => {
      const length = body === undefined ? {} : { "content-length": Buffer.byteLength(body) };
      const sent: ClientRequest = send(
        {
          ...target,
          ...tls,
          method,
          path,
          headers: { ...authorization, ...headers, ...length },
          ...(signal === undefined ? {} : { signal }),
        },
        (answer) =>
          resolve({ status: answer.statusCode ?? 500, headers: answer.headers, body: answer }),
      );
      sent.on("error", (error: NodeJS.ErrnoException) =>
        reject(unreachable(error, socket ?? where.origin)),
      );
      sent.end(body);
    });
}

function unreachable(error: NodeJS.ErrnoException, where: string): ClientError {
  const hint =
    error.code === "EACCES"
      ? "it belongs to another user"
      : "is the daemon running? start it with 'xhyved', or name its socket with --socket";
  const message = `no daemon answers at ${where} (${error.code ?? error.message}): ${hint}`;
  return new ClientError(message, undefined, { cause: error });
}

export function refusal(bytes: Buffer, status: number): ClientError {
  const text = bytes.toString("utf8");
  try {
    const problem = JSON.parse(text) as Problem;
    return new ClientError(problem.detail, problem);
  } catch {
    return new ClientError(`the daemon answered ${status}: ${text.slice(0, 200)}`);
  }
}

export async function collected(body: AsyncIterable<Buffer>): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of body) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** The events of a stream of text (WHATWG HTML, "Interpreting an event stream"), as ours are. */
async function* serverEvents(
  body: AsyncIterable<Buffer>,
): AsyncGenerator<{ sequence: number; data: string }> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of body) {
    const blocks = (rest + decoder.decode(chunk, { stream: true })).split("\n\n");
    rest = blocks.pop() ?? "";
    for (const block of blocks) {
      const field = (name: string): string | undefined =>
        block
          .split("\n")
          .find((line) => line.startsWith(`${name}: `))
          ?.slice(name.length + 2);
      const data = field("data");
      if (data !== undefined) yield { sequence: Number(field("id") ?? 0), data };
    }
  }
}
