// Validation for processes that must stay small: TypeBox's own checker, whose cost is the schemas
// that are loaded anyway (ajv would come on top and compiles code for each schema).
import type { Static, TSchema } from "@sinclair/typebox";
import { Value, type ValueError } from "@sinclair/typebox/value";
import { VmError } from "./errors.js";

/** Fills in defaults, checks, and throws REQUEST_INVALID naming the first place that is wrong. */
export function parse<T extends TSchema>(schema: T, value: unknown, what = "request"): Static<T> {
  const whole = Value.Default(schema, structuredClone(value));
  if (Value.Check(schema, whole)) return whole;
  const error = deepest(Value.Errors(schema, whole).First());
  throw new VmError("REQUEST_INVALID", [what + pathOf(error), sentence(error)]);
}

const pathOf = (error: ValueError | undefined): string =>
  (error?.path ?? "").replaceAll("/", ".").replaceAll("~1", "/").replaceAll("~0", "~");

function sentence(error: ValueError | undefined): string {
  const allowed: unknown = error?.schema.enum;
  if (Array.isArray(allowed)) return `must be one of ${allowed.join(", ")}`;
  const description: unknown = error?.schema.description;
  if (typeof description === "string") return `must be ${description}`;
  const message = error?.message ?? "is not valid";
  return message.charAt(0).toLowerCase() + message.slice(1);
}

/** Of a union, what is wrong with the member whose `kind` the value has. */
function deepest(error: ValueError | undefined): ValueError | undefined {
  const members: unknown = error?.schema.anyOf;
  const kind = kindOf(error?.value);
  if (error === undefined || !Array.isArray(members) || kind === undefined) return error;
  const index = members.findIndex((one) => one?.properties?.kind?.const === kind);
  return error.errors[index]?.First() ?? error;
}

const kindOf = (value: unknown): unknown =>
  typeof value === "object" && value !== null && "kind" in value ? value.kind : undefined;
