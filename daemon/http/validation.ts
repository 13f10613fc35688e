// Routes validate with the same function as every other process boundary, so that an error reads
// the same everywhere. Queries and paths arrive as text and are converted first.
import type { TSchema } from "@sinclair/typebox";
import type { FastifyInstance } from "fastify";
import fp from "fastify-plugin";
import { parse } from "../../api-schema/index.js";

const INTEGER = /^-?[0-9]{1,15}$/;

type Part = "body" | "querystring" | "params" | "headers";

const NAMES: Readonly<Record<Part, string>> = {
  body: "body",
  querystring: "query",
  params: "path",
  headers: "headers",
};

/** Digits where the schema wants an integer; all else stays text, and is refused as such. */
function fromText(schema: TSchema, data: unknown): unknown {
  if (typeof data !== "object" || data === null) return data;
  const entries = Object.entries(data).map(([name, value]): [string, unknown] => {
    const wanted: unknown = schema.properties?.[name]?.type;
    const number = wanted === "integer" && typeof value === "string" && INTEGER.test(value);
    return [name, number ? Number(value) : value];
  });
  return Object.fromEntries(entries);
}

export const validation = fp(
  async (app: FastifyInstance) => {
    app.setValidatorCompiler<TSchema>(({ schema, httpPart }) => {
      const part = (httpPart ?? "body") as Part;
      return (data: unknown) => {
        const given = part === "body" ? (data ?? {}) : fromText(schema, data);
        return { value: parse(schema, given, NAMES[part]) };
      };
    });
    // Answers are made by our own code and tested against their schemas.
    app.setSerializerCompiler(() => (data: unknown) => JSON.stringify(data));
  },
  { name: "validation" },
);
