// The few schema forms that the files here share.
import { Kind, type TObject, type TProperties, Type, TypeRegistry } from "@sinclair/typebox";

/** An object that refuses unknown fields. */
export const closed = <T extends TProperties>(
  properties: T,
  options: Readonly<Record<string, unknown>> = {},
): TObject<T> => Type.Object(properties, { additionalProperties: false, ...options });

interface Literals {
  readonly enum: readonly string[];
}

// JSON Schema's `enum`, which both ajv and TypeBox's own checker then know.
TypeRegistry.Set<Literals>("Literals", (schema, value) => schema.enum.some((one) => one === value));

/** One of these strings. */
export const literals = <const T extends readonly [string, ...string[]]>(
  values: T,
  fallback?: T[number],
) =>
  Type.Unsafe<T[number]>({
    [Kind]: "Literals",
    type: "string",
    enum: values,
    ...(fallback === undefined ? {} : { default: fallback }),
  });

export const count = Type.Integer({ minimum: 0 });

/** `[BUS:]SLOT[:FUNCTION]` as in bhyve's -s: two numbers are slot and function. */
export const PciSlot = Type.String({
  pattern: "^[0-9]{1,3}(:[0-9]{1,3}){0,2}$",
  maxLength: 11,
  description: "[BUS:]SLOT[:FUNCTION] in decimal",
});

/** What people and tools tell objects apart by, beside their names. */
export const Labels = Type.Record(
  Type.String({ pattern: "^[a-z0-9]([a-z0-9._/-]{0,61}[a-z0-9])?$" }),
  Type.String({ maxLength: 256 }),
  { additionalProperties: false, maxProperties: 64, default: {} },
);

const label = "[a-z0-9][a-z0-9._/-]{0,62}(=[^,\u0000]{0,256})?";

/** Which objects of a kind, in the order of their names. Spread into a query. */
export const listing = {
  name: Type.Optional(
    Type.String({
      pattern: "^[A-Za-z0-9._*-]{1,63}$",
      description: "a name, in which * stands for any characters",
    }),
  ),
  labels: Type.Optional(
    Type.String({
      maxLength: 4096,
      pattern: `^${label}(,${label})*$`,
      description:
        "labels with commas between, all of which it has: KEY=VALUE, or KEY with any value",
    }),
  ),
  limit: Type.Integer({ minimum: 1, maximum: 1000, default: 1000 }),
  cursor: Type.Optional(
    Type.String({ pattern: "^[A-Za-z0-9_-]{1,128}$", description: "`next` of the page before" }),
  ),
} as const;
