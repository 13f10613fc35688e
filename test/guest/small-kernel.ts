// A small Linux kernel of our own making, from Debian's source package, for accelerators on which a
// stock one would boot for a quarter of an hour; and the initramfs with its one program.
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { availableParallelism } from "node:os";
import { basename, join } from "node:path";
import { promisify } from "node:util";
import { writeCpio } from "./cpio.js";
import { debianPackage } from "./debian.js";
import { projectRoot } from "./paths.js";
import { startProgress } from "./progress.js";

const run = promisify(execFile);

const SOURCE = "linux-source-6.1";
const CACHE = join(projectRoot, ".cache", "small-kernel");
const HERE = join(projectRoot, "test", "guest", "small-kernel");
const CONFIG = join(HERE, "config");

/** Sources of what is never built. Kconfig files stay: each is named by another. */
const LEFT_OUT = [
  ...["gpu", "infiniband", "media", "net", "scsi", "staging", "usb"].map(
    (name) => `drivers/${name}`,
  ),
  "arch/[!x]*",
  "sound",
].map((folder) => `--exclude=*/${folder}/*.[chS]`);

/** The same configuration and source give the same file, whoever builds it and when. */
const ENVIRONMENT = {
  KBUILD_BUILD_TIMESTAMP: "1970-01-01",
  KBUILD_BUILD_USER: "test",
  KBUILD_BUILD_HOST: "xhyved",
};

/** The lines of the fragment that Kconfig did not take, as `wanted` gives them. */
export function notTaken(wanted: string, taken: string): string[] {
  const lines = new Set(taken.split("\n"));
  // An option that cannot be chosen at all is not set either.
  const isOff = (line: string): boolean => {
    const name = /^# (CONFIG_\w+) is not set$/.exec(line)?.[1];
    return name !== undefined && !taken.includes(`\n${name}=`);
  };
  return wanted
    .split("\n")
    .filter((line) => /^(# )?CONFIG_\w+(=| is not set)/.test(line))
    .filter((line) => !lines.has(line) && !isOff(line));
}

async function unpack(into: string): Promise<string> {
  const archive = join(await debianPackage(SOURCE), "usr", "src", `${SOURCE}.tar.xz`);
  await run("tar", ["-xJf", archive, "-C", into, ...LEFT_OUT]);
  return join(into, readdirSync(into)[0] ?? SOURCE);
}

async function make(source: string, args: readonly string[]): Promise<void> {
  // Its own compiler and flags, whatever this project is built with.
  const { CC: _cc, CXX: _cxx, MAKEFLAGS: _flags, ...inherited } = process.env;
  const env = { ...inherited, ...ENVIRONMENT, KCONFIG_ALLCONFIG: CONFIG };
  const words = ["-s", `-j${availableParallelism()}`, "ARCH=x86_64", ...args];
  try {
    await run("make", words, { cwd: source, env, maxBuffer: 2 ** 26 });
  } catch (cause) {
    const said = String((cause as { stderr?: unknown }).stderr ?? "").slice(-2000);
    throw new Error(
      `the small kernel does not build (its build needs bc, bison, flex, libelf-dev): ${said}`,
      { cause },
    );
  }
}

async function build(work: string): Promise<string> {
  const source = await unpack(work);
  await make(source, ["allnoconfig"]);
  const lost = notTaken(
    readFileSync(CONFIG, "utf8"),
    readFileSync(join(source, ".config"), "utf8"),
  );
  if (lost.length > 0) throw new Error(`Kconfig refuses ${lost.join(", ")} of ${CONFIG}`);
  await make(source, ["vmlinux"]);
  const vmlinux = join(source, "vmlinux");
  await run("strip", ["--strip-all", vmlinux]);
  return vmlinux;
}

/**
 * The small kernel, as vmlinux. Built at the first call, in some three minutes of CPU time and 1 GB
 * of disk; kept under a name that its source's version and its configuration make.
 */
export async function smallKernel(): Promise<string> {
  const version = basename(await debianPackage(SOURCE));
  const digest = createHash("sha256").update(version).update(readFileSync(CONFIG)).digest("hex");
  const done = join(CACHE, `vmlinux-${digest.slice(0, 16)}`);
  if (existsSync(done)) return done;
  const work = join(CACHE, `work.${process.pid}`);
  rmSync(work, { recursive: true, force: true });
  mkdirSync(work, { recursive: true });
  const progress = startProgress("building a small kernel");
  const began = Date.now();
  try {
    renameSync(await build(work), done);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  progress.finish(`${((Date.now() - began) / 1000).toFixed(0)} s`);
  return done;
}

export interface SmallInitrd {
  /** A cpio archive, not packed, of the program and the console that it starts with. */
  readonly archive: Buffer;
  /** Where the program calls the kernel: an INT 0x80. */
  readonly systemCall: number;
}

export async function smallInitrd(folder: string): Promise<SmallInitrd> {
  const init = join(folder, "small-init");
  await run("gcc", [
    ...["-Os", "-static", "-nostdlib", "-ffreestanding", "-fno-pie", "-no-pie", "-Wall", "-Wextra"],
    ...["-fno-stack-protector", "-fcf-protection=none", "-mgeneral-regs-only", "-fno-ipa-cp"],
    ...["-Wl,--build-id=none", "-o", init, join(HERE, "init.c")],
  ]);
  const { stdout } = await run("nm", [init]);
  const systemCall = /^([0-9a-f]+) T system_call$/m.exec(stdout)?.[1];
  if (systemCall === undefined) throw new Error(`no system_call in ${stdout}`);
  const archive = writeCpio([
    { kind: "directory", path: "dev", mode: 0o755 },
    { kind: "character-device", path: "dev/console", mode: 0o600, major: 5, minor: 1 },
    { kind: "file", path: "init", mode: 0o755, data: readFileSync(init) },
  ]);
  return { archive, systemCall: Number.parseInt(systemCall, 16) };
}
