// Saved state as data: a shape is declared once, gives the TypeScript type of the state and checks
// what comes back from disk. Nothing is applied before the whole of it was checked.

/** Checks one value found at `path`; throws StateError where it does not fit. */
export type Shape<T> = (value: unknown, path: string) => T;
export type StateOf<S> = S extends Shape<infer T> ? T : never;

export class StateError extends Error {
  override readonly name = "StateError";
}

const refuse = (path: string, wanted: string): never => {
  throw new StateError(`${path}: ${wanted} expected`);
};

export const int =
  (min: number, max: number): Shape<number> =>
  (value, path) =>
    typeof value === "number" && Number.isInteger(value) && value >= min && value <= max
      ? value
      : refuse(path, `an integer from ${min} to ${max}`);

export const u8 = int(0, 0xff);
export const u16 = int(0, 0xffff);
export const u32 = int(0, 0xffffffff);

export const flag: Shape<boolean> = (value, path) =>
  typeof value === "boolean" ? value : refuse(path, "true or false");

/** Guest time in nanoseconds: decimal, since JSON has no 64-bit integers. */
export const nanoseconds: Shape<string> = (value, path) =>
  typeof value === "string" && /^[0-9]{1,19}$/.test(value) ? value : refuse(path, "nanoseconds");

/** Bytes as base64: exactly `length` of them, or up to `length` where `exact` is false. */
export const base64 =
  (length: number, exact = true): Shape<string> =>
  (value, path) => {
    if (typeof value !== "string") return refuse(path, "base64");
    const found = Buffer.from(value, "base64");
    const fits = exact ? found.length === length : found.length <= length;
    return fits && found.toString("base64") === value
      ? value
      : refuse(path, `base64 of ${exact ? "" : "at most "}${length} bytes`);
  };

export const optional =
  <T>(shape: Shape<T>): Shape<T | null> =>
  (value, path) =>
    value === null ? null : shape(value, path);

export const list =
  <T>(shape: Shape<T>, max: number, min = 0): Shape<readonly T[]> =>
  (value, path) => {
    if (!Array.isArray(value) || value.length > max || value.length < min)
      return refuse(path, `a list of ${min} to ${max} entries`);
    return value.map((entry, index) => shape(entry, `${path}[${index}]`));
  };

/** Every field must be there, and no other. */
export const record =
  <F extends Record<string, Shape<unknown>>>(
    fields: F,
  ): Shape<{ readonly [K in keyof F]: StateOf<F[K]> }> =>
  (value, path) => {
    if (typeof value !== "object" || value === null || Array.isArray(value))
      return refuse(path, "an object");
    const found = value as Record<string, unknown>;
    for (const name of Object.keys(found))
      if (!Object.hasOwn(fields, name)) refuse(`${path}.${name}`, "no such field");
    const out: Record<string, unknown> = {};
    for (const [name, shape] of Object.entries(fields))
      out[name] = shape(found[name], `${path}.${name}`);
    return out as { readonly [K in keyof F]: StateOf<F[K]> };
  };

export const toBase64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString("base64");
export const fromBase64 = (text: string): Uint8Array =>
  Uint8Array.from(Buffer.from(text, "base64"));
