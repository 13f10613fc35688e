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

/** The fields that tell the members of our unions apart. */
const TAGS = ["kind", "type"] as const;

type Members = readonly { readonly properties?: Readonly<Record<string, TSchema | undefined>> }[];

/** Of a union, what is wrong with the member whose tag the value has, or with the tag itself. */
function deepest(error: ValueError | undefined): ValueError | undefined {
  const members: unknown = error?.schema.anyOf;
  if (error === undefined || !Array.isArray(members)) return error;
  const tag = TAGS.find((one) => tagOf(error.value, one) !== undefined);
  if (tag === undefined) return error;
  const schemas = (members as Members).map(({ properties }) => properties?.[tag]);
  const value = tagOf(error.value, tag);
  const index = schemas.findIndex((one) => one !== undefined && Value.Check(one, value));
  if (index >= 0) return deepest(error.errors[index]?.First()) ?? error;
  const known = schemas.flatMap((one) => one?.enum ?? one?.const ?? []);
  const schema = { ...error.schema, enum: known };
  return { ...error, path: `${error.path}/${tag}`, value, schema };
}

const tagOf = (value: unknown, tag: string): unknown =>
  typeof value === "object" && value !== null && Object.hasOwn(value, tag)
    ? (value as Record<string, unknown>)[tag]
    : undefined;
