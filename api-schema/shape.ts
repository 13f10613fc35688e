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
