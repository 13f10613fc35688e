// Random requests made from the table of operations: mostly of the right shape, with values that are
// valid, at the edge, or nonsense. The same for the same seed.
import type { TSchema } from "@sinclair/typebox";
import { methodAndPath, operationIds, specOf } from "../../api-schema/operations.js";

export interface RandomRequest {
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | undefined;
}

/** xorshift32 (Marsaglia, "Xorshift RNGs"). */
export class Random {
  #state: number;
  constructor(seed: number) {
    this.#state = seed | 1;
  }
  /** 0 to below `end`. */
  below(end: number): number {
    this.#state ^= this.#state << 13;
    this.#state ^= this.#state >>> 17;
    this.#state ^= this.#state << 5;
    return (this.#state >>> 0) % end;
  }
  of<T>(values: readonly [T, ...T[]]): T {
    return values[this.below(values.length)] ?? values[0];
  }
  /** Once in so many. */
  once(every: number): boolean {
    return this.below(every) === 0;
  }
}

const NONSENSE: readonly [unknown, ...unknown[]] = [
  null,
  true,
  -1,
  0.5,
  2 ** 53,
  "",
  "\u0000",
  "../../etc/passwd",
  "a".repeat(5000),
  "🦀",
  [],
  {},
  [[[[[[]]]]]],
  { __proto__x: 1, constructor: { prototype: 1 }, toString: null },
];

const textOf = (value: unknown): string =>
  typeof value === "string" ? value : (JSON.stringify(value) ?? "");

const NAMES = ["a", "b", "c", "runs", "off"] as const;

/** Never to be asked at random: they end the daemon's usefulness for the rest. */
const LEFT_OUT: ReadonlySet<string> = new Set(["shutDownHost", "watchEvents", "streamConsole"]);

export class RequestMaker {
  readonly #random: Random;
  readonly #kernel: string;

  constructor(seed: number, kernel: string) {
    this.#random = new Random(seed);
    this.#kernel = kernel;
  }

  next(): RandomRequest {
    const random = this.#random;
    const ids = operationIds.filter((id) => !LEFT_OUT.has(id));
    const id = ids[random.below(ids.length)] ?? "listVms";
    const spec = specOf(id);
    const [method, template] = methodAndPath(spec);
    const path = template.replace(/\{([a-z]+)\}/g, (_, name: string) =>
      encodeURIComponent(this.#pathValue(name)),
    );
    return {
      method: random.once(40) ? random.of(["GET", "PUT", "DELETE", "POST", "OPTIONS"]) : method,
      path: path + this.#query(spec.query),
      headers: this.#headers(spec.body !== undefined),
      body: spec.body === undefined ? undefined : this.#body(spec.body),
    };
  }

  #pathValue(name: string): string {
    if (this.#random.once(10)) return textOf(this.#random.of(NONSENSE));
    return name === "vcpu" ? String(this.#random.below(3)) : this.#random.of(NAMES);
  }

  #query(schema: TSchema | undefined): string {
    const query = new URLSearchParams();
    for (const [name, one] of Object.entries<TSchema>(schema?.properties ?? {}))
      if (name === "timeout" || this.#random.once(3))
        query.append(name, textOf(this.#queryValue(name, one)));
    if (this.#random.once(30)) query.append("nonsense", "1");
    return query.size === 0 ? "" : `?${query}`;
  }

  /** No request may wait long: what it leaves out would be a minute. */
  #queryValue(name: string, schema: TSchema): unknown {
    return name === "timeout" ? this.#random.of([0, 0, 0, 1, -1, "x"]) : this.#value(schema, 0);
  }

  #headers(hasBody: boolean): Record<string, string> {
    const random = this.#random;
    const type = random.once(30)
      ? random.of(["text/plain", "application/x", ";"])
      : "application/json";
    return {
      ...(hasBody ? { "content-type": type } : {}),
      ...(random.once(10) ? { "if-match": random.of(['"1"', '"2"', "*", "x", '""']) } : {}),
      ...(random.once(10) ? { "idempotency-key": random.of(["k1", "k2", "k 3"]) } : {}),
      ...(random.once(50) ? { "last-event-id": random.of(["1", "x"]) } : {}),
    };
  }

  #body(schema: TSchema): string {
    const random = this.#random;
    if (random.once(30)) return random.of(["", "{", "null", "[]", "\u0000", '{"a":', "1e999"]);
    return JSON.stringify(this.#value(schema, 0)) ?? "";
  }

  #value(schema: TSchema, depth: number): unknown {
    const random = this.#random;
    if (random.once(25)) return random.of(NONSENSE);
    if (Array.isArray(schema.anyOf)) {
      const members = schema.anyOf as TSchema[];
      return this.#value(members[random.below(members.length)] ?? schema, depth);
    }
    if (schema.const !== undefined) return schema.const;
    if (Array.isArray(schema.enum)) return schema.enum[random.below(schema.enum.length)];
    switch (schema.type) {
      case "object":
        return this.#object(schema, depth);
      case "array":
        return Array.from({ length: random.below(3) }, () => this.#value(schema.items, depth + 1));
      case "integer":
      case "number":
        return this.#number(schema);
      case "boolean":
        return random.once(2);
      case "string":
        return this.#text(schema);
      default:
        return random.of(NONSENSE);
    }
  }

  #object(schema: TSchema, depth: number): Record<string, unknown> {
    const required = new Set<string>((schema.required as string[] | undefined) ?? []);
    const members = Object.entries<TSchema>(schema.properties ?? {}).flatMap(([name, one]) => {
      const wanted =
        required.has(name) && one.default === undefined
          ? !this.#random.once(30)
          : this.#random.once(4);
      return wanted ? [[name, this.#value(one, depth + 1)]] : [];
    });
    if (this.#random.once(20)) members.push(["extra", 1]);
    return Object.fromEntries(members) as Record<string, unknown>;
  }

  #number({ minimum = 0, maximum = 100, multipleOf = 1 }: TSchema): number {
    const low = Number(minimum);
    const small = Math.min(Number(maximum), low + 64 * Number(multipleOf));
    return this.#random.of([low, small, low - 1, Number(maximum), Number(maximum) + 1, low]);
  }

  #text(schema: TSchema): string {
    if (schema["x-host-path"] === true)
      return this.#random.of([this.#kernel, this.#kernel, "/nowhere", "relative"]);
    if (String(schema.pattern).includes("{8}-"))
      return `00000000-0000-4000-8000-00000000000${this.#random.below(4)}`;
    if (String(schema.pattern).includes("[0-9]{1,3}")) return `${this.#random.below(32)}:0`;
    return this.#random.of(["a", "b", "c", "new", "x".repeat(64), "1", "running"]);
  }
}
