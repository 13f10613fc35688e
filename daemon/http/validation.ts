// Routes validate with the same function as every other process boundary, so that an error reads
// the same everywhere. Queries and paths arrive as text and are converted first.
import type { TSchema } from "@sinclair/typebox";
import { Value } from "@sinclair/typebox/value";
import type { FastifyInstance } from "fastify";
import fp from "fastify-plugin";
import { parse } from "../../api-schema/index.js";

type Part = "body" | "querystring" | "params" | "headers";

const NAMES: Readonly<Record<Part, string>> = {
  body: "body",
  querystring: "query",
  params: "path",
  headers: "headers",
};

export const validation = fp(
  async (app: FastifyInstance) => {
    app.setValidatorCompiler<TSchema>(({ schema, httpPart }) => {
      const part = (httpPart ?? "body") as Part;
      return (data: unknown) => {
        const given = part === "body" ? (data ?? {}) : Value.Convert(schema, structuredClone(data));
        return { value: parse(schema, given, NAMES[part]) };
      };
    });
    // Answers are made by our own code and tested against their schemas.
    app.setSerializerCompiler(() => (data: unknown) => JSON.stringify(data));
  },
  { name: "validation" },
);
