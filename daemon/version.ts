import { readFileSync } from "node:fs";

const packageFile = new URL(
  import.meta.url.includes("/dist/") ? "../../package.json" : "../package.json",
  import.meta.url,
);

/** The version of this release, from package.json. */
export const version: string = (
  JSON.parse(readFileSync(packageFile, "utf8")) as { version: string }
).version;
