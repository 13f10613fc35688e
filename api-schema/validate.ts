// Validation for processes that must stay small: TypeBox's own checker, whose cost is the schemas
// that are loaded anyway (ajv would come on top and compiles code for each schema).
import type { Static, TSchema } from "@sinclair/typebox";
import { Value, type ValueError } from "@sinclair/typebox/value";
import { type FieldProblem, InvalidRequest } from "./errors.js";

/** So many wrong places are told at once. */
const MAX_PROBLEMS = 32;

export interface Examined<T extends TSchema> {
  /** With defaults filled in; of the schema's type where nothing is wrong with it. */
  readonly value: Static<T>;
  readonly problems: readonly FieldProblem[];
}

/** Fills in defaults and checks; `what` names the whole: "body", "query". */
export const examine = <T extends TSchema>(schema: T, value: unknown, what: string): Examined<T> =>
  examineOwn(schema, structuredClone(value), what);

/** The same of a value that nobody else holds: it is filled in where it is. */
export function examineOwn<T extends TSchema>(
  schema: T,
  value: unknown,
  what: string,
): Examined<T> {
  const whole: unknown = Value.Default(schema, value);
  if (Value.Check(schema, whole)) return { value: whole, problems: [] };
  const problems = new Map<string, FieldProblem>();
  for (const error of Value.Errors(schema, whole)) {
    for (const one of deepest(error))
      if (!problems.has(one.path))
        problems.set(one.path, { in: what, pointer: `#${one.path}`, detail: sentence(one) });
    if (problems.size >= MAX_PROBLEMS) break;
  }
  return { value: whole as Static<T>, problems: [...problems.values()] };
}

/** Fills in defaults, checks, and throws REQUEST_INVALID naming every place that is wrong. */
export function parse<T extends TSchema>(schema: T, value: unknown, what = "request"): Static<T> {
  const examined = examine(schema, value, what);
  if (examined.problems.length > 0) throw new InvalidRequest(examined.problems);
  return examined.value;
}

function sentence({ message, schema, value }: ValueError): string {
  if (/^Unexpected/.test(message)) return "unexpected property";
  const right = expectation(schema);
  if (right === undefined) return message.charAt(0).toLowerCase() + message.slice(1);
  return value === undefined ? `is missing: must be ${right}` : `must be ${right}`;
}

/** What a schema takes, in words; undefined where it takes too much to tell. */
export function expectation(schema: TSchema): string | undefined {
  if (Array.isArray(schema.enum)) return `one of ${schema.enum.join(", ")}`;
  if (typeof schema.description === "string") return schema.description;
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  switch (schema.type) {
    case "integer":
    case "number":
      return numbers(schema);
    case "string":
      return `a text${sizes(schema.minLength, schema.maxLength, "characters")}`;
    case "array":
      return `a list${sizes(schema.minItems, schema.maxItems, "items")}`;
    case "object":
      return `an object${sizes(schema.minProperties, schema.maxProperties, "members")}`;
    case "boolean":
      return "true or false";
    default:
      return undefined;
  }
}

function numbers({ type, minimum, maximum, multipleOf }: TSchema): string {
  const kind = type === "integer" ? "an integer" : "a number";
  const from = minimum === undefined ? "" : ` from ${minimum}`;
  const to = maximum === undefined ? (from === "" ? "" : " up") : ` to ${maximum}`;
  return `${kind}${from}${to}${multipleOf === undefined ? "" : `, a multiple of ${multipleOf}`}`;
}

function sizes(min: unknown, max: unknown, of: string): string {
  if (min === undefined && max === undefined) return "";
  if (max === undefined) return ` of ${String(min)} ${of} or more`;
  return min === undefined
    ? ` of at most ${String(max)} ${of}`
    : ` of ${String(min)} to ${String(max)} ${of}`;
}

/** The fields that tell the members of our unions apart. */
const TAGS = ["kind", "type"] as const;

type Members = readonly { readonly properties?: Readonly<Record<string, TSchema | undefined>> }[];

/** Of a union, what is wrong with the member whose tag the value has (of several: the nearest), or with
 * the tag itself. */
function deepest(error: ValueError): readonly ValueError[] {
  const members: unknown = error.schema.anyOf;
  if (!Array.isArray(members)) return [error];
  const tag = TAGS.find((one) => tagOf(error.value, one) !== undefined);
  if (tag === undefined) return [error];
  const schemas = (members as Members).map(({ properties }) => properties?.[tag]);
  const value = tagOf(error.value, tag);
  const inMembers = schemas.flatMap((one, index) => {
    const meant = one !== undefined && Value.Check(one, value);
    const wrong = meant ? [...(error.errors[index] ?? [])].flatMap(deepest) : [];
    return wrong.length > 0 ? [wrong] : [];
  });
  const [nearest] = inMembers.sort((a, b) => a.length - b.length);
  if (nearest !== undefined) return nearest;
  const known = schemas.flatMap((one) => one?.enum ?? one?.const ?? []);
  const schema = { ...error.schema, enum: known };
  return [{ ...error, path: `${error.path}/${tag}`, value, schema }];
}

const tagOf = (value: unknown, tag: string): unknown =>
  typeof value === "object" && value !== null && Object.hasOwn(value, tag)
    ? (value as Record<string, unknown>)[tag]
    : undefined;
