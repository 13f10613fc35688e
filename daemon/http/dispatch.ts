// The one way to an operation: rights, validation, handler, whichever way the request came.
import { type TSchema, Type } from "@sinclair/typebox";
import type { FastifyBaseLogger } from "fastify";
import {
  CreateVm,
  type FieldProblem,
  InvalidRequest,
  StoredNetwork,
  VmError,
} from "../../api-schema/index.js";
import {
  IdempotencyKeyHeader,
  IfMatchHeader,
  isOperation,
  type OperationId,
  type OperationSpec,
  type Scope,
  scopes,
  specOf,
  takesKey,
} from "../../api-schema/operations.js";
import { type Examined, examine, examineOwn } from "../../api-schema/validate.js";
import type { PathRules } from "../paths.js";
import {
  type CallContext,
  type Handlers,
  isRemote,
  type Precondition,
  type Principal,
  Reply,
} from "./call.js";
import { refuseDeep } from "./depth.js";
import { fromText } from "./from-text.js";
import type { Answer, Answers, Attempt } from "./idempotency.js";
import { shownTo } from "./secrets.js";

/** As it came: nothing of it is believed. */
export interface Given {
  readonly path: unknown;
  readonly query: unknown;
  readonly body: unknown;
  readonly ifMatch: string | undefined;
  readonly idempotencyKey: string | undefined;
}

export interface Dispatcher {
  /** Throws VmError; resolves with what the handler gives. */
  call(id: OperationId, given: Given, context: CallContext): Promise<unknown>;
}

type AnyHandler = (call: unknown) => unknown;

export interface DispatchTools {
  readonly answers: Answers;
  readonly paths: PathRules;
}

/** What a handler gets, of whatever row: there its members have the types of the row's schemas. */
class Asked implements CallContext {
  readonly principal: Principal;
  readonly requestId: string;
  readonly log: FastifyBaseLogger;
  readonly path: unknown;
  readonly query: unknown;
  readonly body: unknown;
  readonly ifMatch: Precondition;
  readonly attempt: Attempt | undefined;
  readonly #context: CallContext;

  constructor(context: CallContext, valid: Valid, attempt: Attempt | undefined) {
    this.principal = context.principal;
    this.requestId = context.requestId;
    this.log = context.log;
    this.path = valid.path;
    this.query = valid.query;
    this.body = valid.body;
    this.ifMatch = valid.ifMatch;
    this.attempt = attempt;
    this.#context = context;
  }

  get signal(): AbortSignal {
    return this.#context.signal;
  }
}

export function makeDispatcher(handlers: Handlers, { answers, paths }: DispatchTools): Dispatcher {
  const handlerOf = (id: OperationId): AnyHandler => handlers[id] as AnyHandler;
  return {
    async call(id, given, context) {
      const spec = specOf(id);
      requireScope(spec.scope, context.principal.scope);
      const valid = validated(spec, given);
      const remote = isRemote(context.principal);
      if (spec.body !== undefined && !WITH_WHAT_WAS.has(spec.body))
        paths.check(spec.body, valid.body, { remote });
      const work = async (attempt?: Attempt): Promise<unknown> => {
        const asked = new Asked(context, valid, attempt);
        return shownTo(context.principal.scope, await handlerOf(id)(asked));
      };
      const { idempotencyKey: key, ifMatch: _, ...sent } = given;
      if (key === undefined || !takesKey(spec)) return work();
      const request = { principal: context.principal, key, operation: id, given: sent };
      const { status, body } = await answers.once(request, async (attempt) =>
        answerOf(spec, await work(attempt)),
      );
      return new Reply(status, body);
    },
  };
}

function answerOf({ answer }: OperationSpec, outcome: unknown): Answer {
  if (outcome instanceof Reply) return { status: outcome.status, body: outcome.body as unknown };
  return { status: answer.status, body: outcome };
}

/** Their paths are looked at together with those that were there before. */
const WITH_WHAT_WAS: ReadonlySet<TSchema> = new Set<TSchema>([CreateVm, StoredNetwork]);

const rank = (scope: Scope): number => scopes.indexOf(scope);

function requireScope(needed: Scope | "none", has: Scope): void {
  if (needed !== "none" && rank(has) < rank(needed))
    throw new VmError("FORBIDDEN", [`this needs the scope ${needed}; the token has ${has}`]);
}

interface Valid {
  readonly path: unknown;
  readonly query: unknown;
  readonly body: unknown;
  readonly ifMatch: Precondition;
}

/** Throws InvalidRequest with all that is wrong, in every part. */
function validated(spec: OperationSpec, given: Given): Valid {
  refuseDeep(given.body, "body");
  const problems: FieldProblem[] = [];
  const found = ({ value, problems: wrong }: Examined<TSchema>): unknown => {
    problems.push(...wrong);
    return value;
  };
  const text = (schema: TSchema = NOTHING, value: unknown, name: string): unknown =>
    found(examineOwn(schema, fromText(schema, value ?? {}), name));
  const header = (schema: TSchema, value: unknown, name: string): unknown =>
    value === undefined
      ? undefined
      : found(examineOwn(Type.Object({ [name]: schema }), { [name]: value }, "headers"));
  const valid = {
    path: text(spec.path, given.path, "path"),
    query: text(spec.query, given.query, "query"),
    body: spec.body && found(examine(spec.body, given.body ?? {}, "body")),
    ifMatch: undefined as Precondition,
  };
  if (spec.conditional === true) header(IfMatchHeader, given.ifMatch, "if-match");
  if (takesKey(spec)) header(IdempotencyKeyHeader, given.idempotencyKey, "idempotency-key");
  if (problems.length > 0) throw new InvalidRequest(problems);
  return spec.conditional === true ? { ...valid, ifMatch: precondition(given.ifMatch) } : valid;
}

const NOTHING = Type.Object({}, { additionalProperties: false });

const precondition = (tag: string | undefined): Precondition =>
  tag === undefined || tag === "*" ? undefined : Number(tag.slice(1, -1));

/** A method's name from outside; throws METHOD_NOT_FOUND. */
export function operationNamed(name: string): OperationId {
  if (!isOperation(name)) throw new VmError("METHOD_NOT_FOUND", [name.slice(0, 100)]);
  return name;
}
