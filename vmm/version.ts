// The project's version, read once at start: what hello, -v and the log say.
import { readFileSync } from "node:fs";

/** package.json lies two folders up from here in dist/vmm, one up in the sources. */
function read(): string {
  for (const up of ["../../package.json", "../package.json"]) {
    try {
      const { name, version } = JSON.parse(readFileSync(new URL(up, import.meta.url), "utf8"));
      if (name === "xhyved" && typeof version === "string") return version;
    } catch {
      // The other place, then.
    }
  }
  return "unknown";
}

export const VERSION = read();
