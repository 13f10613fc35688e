// The document, by the word of others.
import { createConfig, lintFromString } from "@redocly/openapi-core";
import { Validator } from "@seriousme/openapi-schema-validator";
import { describe, expect, it } from "vitest";
import { openApiDocument } from "./openapi.js";
import { operationIds } from "./operations.js";

const document = openApiDocument("1.2.3");

/** The success of a WebSocket is 101, which this rule does not know. */
const RULES = { "operation-2xx-response": "off" } as const;

describe("the OpenAPI document", () => {
  it("passes Redocly's linter with its recommended rules", async () => {
    const config = await createConfig({ extends: ["recommended"], rules: RULES });
    const problems = await lintFromString({ source: JSON.stringify(document), config });
    expect(
      problems.map(({ ruleId, message, location }) => ({
        ruleId,
        message,
        at: location[0]?.pointer,
      })),
    ).toEqual([]);
  });

  it("passes the validator with the official schemas", async () => {
    const { valid, errors } = await new Validator().validate(structuredClone(document));
    expect(errors).toBeUndefined();
    expect(valid).toBe(true);
  });

  it("has every operation, and describes what is sent as it may be sent", () => {
    const text = JSON.stringify(document);
    for (const id of operationIds) expect(text).toContain(`"operationId":"${id}"`);
    const schemas = (document.components as { schemas: Record<string, { required?: string[] }> })
      .schemas;
    expect(schemas.CreateVm?.required).toEqual(["name", "boot"]);
    expect(schemas.VmDefinition?.required).toContain("memory");
  });
});
