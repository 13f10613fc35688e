// Writes the pages that are made from code: `npm run docs`.
import { writeFileSync } from "node:fs";
import { errorsPage } from "../dist/api-schema/errors-page.js";

writeFileSync(new URL("errors.md", import.meta.url), errorsPage());
