import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { errorsPage } from "./errors-page.js";

it("docs/errors.md is what the table says (else: npm run docs)", () => {
  expect(readFileSync(new URL("../docs/errors.md", import.meta.url), "utf8")).toBe(errorsPage());
});
