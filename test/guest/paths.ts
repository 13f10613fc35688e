import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

function findRoot(from: string): string {
  if (existsSync(join(from, "binding.gyp"))) return from;
  const above = dirname(from);
  if (above === from) throw new Error("this file lies in no checkout of the project");
  return findRoot(above);
}

/** The checkout, seen from the sources as well as from dist/. */
export const projectRoot: string = findRoot(dirname(fileURLToPath(import.meta.url)));
