// Writes the pages that are made from code: `npm run docs`.
import { writeFileSync } from "node:fs";
import { errorsPage } from "../dist/api-schema/errors-page.js";
import { commands } from "../dist/daemon/cli/commands.js";
import { manual } from "../dist/daemon/cli/man-page.js";

writeFileSync(new URL("errors.md", import.meta.url), errorsPage());
writeFileSync(new URL("xhyvectl.1", import.meta.url), manual(commands));
