// Programs of the host with the shared libraries that they need, for a guest's RAM file system.
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, realpathSync } from "node:fs";

/** Path in the guest to content; undefined where the host has no such program. */
export function withLibraries(program: string): Readonly<Record<string, Buffer>> | undefined {
  if (!existsSync(program)) return undefined;
  const listed = execFileSync("ldd", [realpathSync(program)], { encoding: "utf8" });
  const libraries = [...listed.matchAll(/(\/\S+) \(0x[0-9a-f]+\)/g)].map(([, path = ""]) => path);
  const files = [program, ...libraries].map((path): [string, Buffer] => [
    path.slice(1),
    readFileSync(path),
  ]);
  return Object.fromEntries(files);
}
