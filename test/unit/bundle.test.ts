import { isBuiltin } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { expect, it } from "vitest";
import { projectRoot } from "../guest/paths.js";

interface Bundler {
  readonly PROGRAMS: readonly string[];
  bundle(
    program: string,
    options: { readonly write: boolean },
  ): Promise<{
    readonly imports: readonly string[];
    readonly dynamicImports: readonly string[];
    readonly code: string;
  }>;
}
const { PROGRAMS, bundle }: Bundler = await import(
  pathToFileURL(join(projectRoot, "bundle.mjs")).href
);

/** They find native code beside themselves. */
const OUTSIDE = ["better-sqlite3"];

it.each(PROGRAMS)("%s is one file", async (name) => {
  const { imports, dynamicImports } = await bundle(name, { write: false });
  const outside = [...imports, ...dynamicImports].filter((each) => !isBuiltin(each));
  expect(OUTSIDE).toEqual(expect.arrayContaining(outside));
});

it("lets modules find files from where they lay before", async () => {
  const { code } = await bundle("daemon/main", { write: false });
  expect(code).toContain('new URL("supervisor/vm-process.js", import.meta.url).href');
  expect(code).toContain('new URL("../native/addon.js", import.meta.url).href');
});
