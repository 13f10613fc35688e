// JSON-RPC 2.0: the same operations by the same dispatcher. `params` are an object: the parameters of
// path and query by name, `body`, `ifMatch` (a generation) and `idempotencyKey`. A failure's `data`
// is the problem document that REST would answer with.
import {
  asVmError,
  parse,
  RPC_FAILED,
  RPC_INVALID_PARAMS,
  RPC_INVALID_REQUEST,
  RPC_METHOD_NOT_FOUND,
  RPC_PARSE_ERROR,
  type VmPower,
} from "../../api-schema/index.js";
import {
  type AnswerSpec,
  type OperationId,
  type OperationSpec,
  specOf,
} from "../../api-schema/operations.js";
import { MAX_BATCH, RpcRequest, type RpcResponse } from "../../api-schema/rpc.js";
import { type CallContext, type RawReply, Reply, type ServerEvent } from "./call.js";
import { type Dispatcher, type Given, operationNamed } from "./dispatch.js";
import { problemOf, type StateOf } from "./problems.js";

/** Where events go; absent over plain HTTP, which has no way to send them. */
export interface Subscriptions {
  /** Answers with the subscription's number. */
  add(events: AsyncIterable<ServerEvent<unknown>>): number;
}

export interface RpcParts {
  readonly dispatcher: Dispatcher;
  readonly context: CallContext;
  readonly stateOf: StateOf;
  readonly subscriptions?: Subscriptions | undefined;
}

type Response = RpcResponse | undefined;

/** The answer to one text, undefined where nothing is to be answered (§4.1, §6). */
export async function answerRpc(
  text: string,
  parts: RpcParts,
): Promise<RpcResponse | RpcResponse[] | undefined> {
  let message: unknown;
  try {
    message = JSON.parse(text);
  } catch (error) {
    return refusal(null, RPC_PARSE_ERROR, `not JSON: ${asVmError(error).message}`);
  }
  if (!Array.isArray(message)) return answerOne(message, parts);
  if (message.length === 0 || message.length > MAX_BATCH)
    return refusal(null, RPC_INVALID_REQUEST, `a batch has 1 to ${MAX_BATCH} requests`);
  const answers: Response[] = [];
  for (const one of message) answers.push(await answerOne(one, parts)); // in order, as REST would be
  const told = answers.filter((answer) => answer !== undefined);
  return told.length === 0 ? undefined : told;
}

async function answerOne(message: unknown, parts: RpcParts): Promise<Response> {
  let request: RpcRequest;
  try {
    request = parse(RpcRequest, message, "request");
  } catch (error) {
    return refusal(idOf(message), RPC_INVALID_REQUEST, asVmError(error).message);
  }
  const { id, method, params = {} } = request;
  const answer = await carryOut(method, params, id ?? null, parts);
  return id === undefined ? undefined : answer;
}

async function carryOut(
  method: string,
  params: Params,
  id: RpcResponse["id"],
  parts: RpcParts,
): Promise<RpcResponse> {
  try {
    const operation = operationNamed(method);
    const spec = specOf(operation);
    const refused = notHere(spec.answer, parts);
    if (refused !== undefined) return refusal(id, RPC_METHOD_NOT_FOUND, `${method} ${refused}`);
    const given = givenBy(spec, params);
    const outcome = await parts.dispatcher.call(operation, given, parts.context);
    return { jsonrpc: "2.0", id, result: resultOf(operation, outcome, parts) };
  } catch (error) {
    return failure(error, id, params, parts);
  }
}

function notHere({ kind }: AnswerSpec, { subscriptions }: RpcParts): string | undefined {
  if (kind === "websocket") return "is a WebSocket of its own";
  if (kind === "events" && subscriptions === undefined)
    return "sends notifications: ask for it over a WebSocket";
  return undefined;
}

type Params = Readonly<Record<string, unknown>>;

const OWN_PARAMS = new Set(["body", "ifMatch", "idempotencyKey"]);

/** What no part of the operation has goes with the query, and is refused there by name. */
function givenBy(spec: OperationSpec, params: Params): Given {
  const inPath = new Set(Object.keys(spec.path?.properties ?? {}));
  const named = Object.entries(params).filter(([name]) => !OWN_PARAMS.has(name));
  const { body, ifMatch, idempotencyKey } = params;
  return {
    path: Object.fromEntries(named.filter(([name]) => inPath.has(name))),
    query: Object.fromEntries(named.filter(([name]) => !inPath.has(name))),
    body,
    ifMatch: ifMatch === undefined ? undefined : `"${String(ifMatch)}"`,
    idempotencyKey: idempotencyKey === undefined ? undefined : String(idempotencyKey),
  };
}

function resultOf(id: OperationId, outcome: unknown, { subscriptions }: RpcParts): unknown {
  const { answer } = specOf(id);
  switch (answer.kind) {
    case "json":
      return outcome instanceof Reply ? outcome.body : outcome;
    case "raw":
      return rawResult(answer.mediaType, outcome as RawReply);
    case "events":
      return { subscription: subscriptions?.add(outcome as AsyncIterable<ServerEvent<unknown>>) };
    default:
      return null;
  }
}

/** Text as it is, bytes in base64. */
function rawResult(mediaType: string, { bytes, headers }: RawReply): object {
  const data = mediaType.startsWith("text/")
    ? bytes.toString()
    : Buffer.from(bytes).toString("base64");
  return { ...headers, data };
}

function failure(
  error: unknown,
  id: RpcResponse["id"],
  params: Params,
  { context, stateOf }: RpcParts,
): RpcResponse {
  const known = asVmError(error);
  if (known.http >= 500)
    context.log.error({ reqId: context.requestId, err: error }, "a request failed");
  const state: VmPower | undefined =
    typeof params.vm === "string" && known.http !== 403 ? stateOf(params.vm) : undefined;
  const code = CODES.get(known.code) ?? RPC_FAILED;
  return refusal(id, code, known.message, problemOf(known, context.requestId, state));
}

/** §5.1 has codes of its own for these. */
const CODES = new Map<string, number>([
  ["REQUEST_INVALID", RPC_INVALID_PARAMS],
  ["METHOD_NOT_FOUND", RPC_METHOD_NOT_FOUND],
]);

const refusal = (
  id: RpcResponse["id"],
  code: number,
  message: string,
  data?: object,
): RpcResponse => ({
  jsonrpc: "2.0",
  id,
  error: { code, message, ...(data === undefined ? {} : { data }) },
});

/** Of a request that is none: told where it can be (§5). */
function idOf(message: unknown): RpcResponse["id"] {
  const { id } = (message ?? {}) as { id?: unknown };
  return typeof id === "string" || typeof id === "number" ? id : null;
}
