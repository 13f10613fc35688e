// Queries and paths arrive as text: what a schema wants otherwise is converted before it is checked.
import type { TSchema } from "@sinclair/typebox";

const INTEGER = /^-?[0-9]{1,15}$/;
const BOOLEANS = new Map<unknown, boolean>([
  ["true", true],
  ["false", false],
]);

function one(schema: TSchema | undefined, value: unknown): unknown {
  if (typeof value !== "string") return value;
  if (schema?.type === "integer" && INTEGER.test(value)) return Number(value);
  if (schema?.type === "boolean") return BOOLEANS.get(value) ?? value;
  return value;
}

/** Digits where the schema wants an integer; all else stays text, and is refused as such. */
export function fromText(schema: TSchema, data: unknown): unknown {
  if (typeof data !== "object" || data === null) return data;
  return Object.fromEntries(
    Object.entries(data).map(([name, value]) => [name, one(schema.properties?.[name], value)]),
  );
}
