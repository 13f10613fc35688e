// Where a value names files of the host: found by its schema, in which every path is a HostPath, so
// that no new field can be forgotten.
import type { TSchema } from "@sinclair/typebox";
import { Value } from "@sinclair/typebox/value";

/** On the schema of every string that the host opens, makes or connects to. */
export const HOST_PATH = "x-host-path";

export interface NamedPath {
  /** A JSON Pointer: /boot/kernel. */
  readonly pointer: string;
  readonly path: string;
}

const escaped = (name: string): string => name.replaceAll("~", "~0").replaceAll("/", "~1");

/** All paths in a value that the schema takes; what it does not take has none. */
export function hostPathsIn(schema: TSchema, value: unknown, pointer = ""): NamedPath[] {
  if (schema[HOST_PATH] === true)
    return typeof value === "string" ? [{ pointer, path: value }] : [];
  if (typeof value !== "object" || value === null) return [];
  const union: unknown = schema.anyOf;
  if (Array.isArray(union)) {
    const member = (union as TSchema[]).find((one) => Value.Check(one, value));
    return member === undefined ? [] : hostPathsIn(member, value, pointer);
  }
  return Object.entries(value).flatMap(([name, member]) => {
    const inner = schemaOf(schema, name);
    return inner === undefined ? [] : hostPathsIn(inner, member, `${pointer}/${escaped(name)}`);
  });
}

/** Of a member of an object or a list. */
function schemaOf(schema: TSchema, name: string): TSchema | undefined {
  if (schema.type === "array") return schema.items as TSchema;
  const named = schema.properties?.[name] as TSchema | undefined;
  if (named !== undefined) return named;
  const patterns = Object.entries<TSchema>(schema.patternProperties ?? {});
  return patterns.find(([pattern]) => new RegExp(pattern).test(name))?.[1];
}
