// The release before this one, built from its commit: once, in .cache, with this checkout's
// dependencies.
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, renameSync, rmSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { projectRoot } from "../guest/paths.js";

/** 0.1.0: the last commit that spoke protocol 1 with VM processes, and had schema version 1. */
export const PREVIOUS_RELEASE = "e911f79942b3";

/** Undefined where this checkout's history does not have it (a shallow clone, a tarball). */
export function previousRelease(): string | undefined {
  const folder = join(projectRoot, ".cache", `release-${PREVIOUS_RELEASE}`);
  if (existsSync(folder)) return folder;
  const known = spawnSync("git", ["cat-file", "-e", `${PREVIOUS_RELEASE}^{commit}`], {
    cwd: projectRoot,
  });
  if (known.status !== 0) return undefined;
  const unfinished = `${folder}.new`;
  rmSync(unfinished, { recursive: true, force: true });
  mkdirSync(unfinished, { recursive: true });
  const tree = execFileSync("git", ["archive", PREVIOUS_RELEASE], {
    cwd: projectRoot,
    maxBuffer: 2 ** 28,
  });
  execFileSync("tar", ["x", "-C", unfinished], { input: tree });
  symlinkSync(join("..", "..", "node_modules"), join(unfinished, "node_modules"));
  const run = (program: string, ...args: string[]): void => {
    execFileSync(program, args, { cwd: unfinished, stdio: ["ignore", "ignore", "pipe"] });
  };
  run(process.execPath, "native/build.mjs", "rebuild");
  run(join(projectRoot, "node_modules", ".bin", "tsc"), "-p", "tsconfig.build.json");
  renameSync(unfinished, folder);
  return folder;
}
