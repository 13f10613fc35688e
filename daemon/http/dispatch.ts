// The one way to an operation: rights, validation, handler, whichever way the request came.
import { parse, VmError } from "../../api-schema/index.js";
import {
  IfMatchHeader,
  isOperation,
  type OperationId,
  type OperationSpec,
  type Scope,
  scopes,
  specOf,
} from "../../api-schema/operations.js";
import type { CallContext, Handlers, Precondition } from "./call.js";
import { refuseDeep } from "./depth.js";
import { fromText } from "./from-text.js";

/** As it came: nothing of it is believed. */
export interface Given {
  readonly path: unknown;
  readonly query: unknown;
  readonly body: unknown;
  readonly ifMatch: string | undefined;
}

export interface Dispatcher {
  /** Throws VmError; resolves with what the handler gives. */
  call(id: OperationId, given: Given, context: CallContext): Promise<unknown>;
}

type AnyHandler = (call: unknown) => unknown;

export function makeDispatcher(handlers: Handlers): Dispatcher {
  const handlerOf = (id: OperationId): AnyHandler => handlers[id] as AnyHandler;
  return {
    async call(id, given, context) {
      const spec = specOf(id);
      requireScope(spec.scope, context.principal.scope);
      return handlerOf(id)({ ...validated(spec, given), ...context });
    },
  };
}

const rank = (scope: Scope): number => scopes.indexOf(scope);

function requireScope(needed: Scope | "none", has: Scope): void {
  if (needed !== "none" && rank(has) < rank(needed))
    throw new VmError("FORBIDDEN", [`this needs the scope ${needed}; the token has ${has}`]);
}

function validated(spec: OperationSpec, given: Given): object {
  refuseDeep(given.body, "body");
  return {
    path: spec.path && parse(spec.path, fromText(spec.path, given.path ?? {}), "path"),
    query: spec.query && parse(spec.query, fromText(spec.query, given.query ?? {}), "query"),
    body: spec.body && parse(spec.body, given.body ?? {}, "body"),
    ifMatch: spec.conditional === true ? precondition(given.ifMatch) : undefined,
  };
}

function precondition(text: string | undefined): Precondition {
  if (text === undefined) return undefined;
  const tag = parse(IfMatchHeader, text, "headers.if-match");
  return tag === "*" ? undefined : Number(tag.slice(1, -1));
}

/** A method's name from outside; throws METHOD_NOT_FOUND. */
export function operationNamed(name: string): OperationId {
  if (!isOperation(name)) throw new VmError("METHOD_NOT_FOUND", [name.slice(0, 100)]);
  return name;
}
