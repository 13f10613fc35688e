// Files from Debian's packages: downloaded with apt-get, unpacked under the ignored cache folder,
// never installed and never committed.
import { execFile, spawn } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { projectRoot } from "./paths.js";
import { startProgress } from "./progress.js";

const run = promisify(execFile);
const CACHE = join(projectRoot, ".cache", "debian");
const POLL_MS = 200;

export class NoDebianPackages extends Error {
  override readonly name = "NoDebianPackages";
}

async function apt(program: string, args: readonly string[], cwd = projectRoot): Promise<string> {
  try {
    return (await run(program, [...args], { cwd, maxBuffer: 2 ** 24 })).stdout;
  } catch (cause) {
    throw new NoDebianPackages(
      `'${program} ${args.join(" ")}' failed (is this a Debian host, and has 'apt-get update' been run?)`,
      { cause },
    );
  }
}

/** A kernel's metapackage depends on the package that holds the kernel. */
async function resolveKernel(name: string): Promise<string> {
  const depends = await apt("apt-cache", ["depends", "--important", name]);
  return /Depends: (linux-image-\S+)/.exec(depends)?.[1] ?? name;
}

async function field(packageName: string, name: string): Promise<string> {
  const shown = await apt("apt-cache", ["show", "--no-all-versions", packageName]);
  const value = new RegExp(`^${name}: (.*)$`, "m").exec(shown)?.[1];
  if (value === undefined) throw new NoDebianPackages(`${packageName} has no field ${name}`);
  return value;
}

const sizeOf = (folder: string): number =>
  readdirSync(folder, { recursive: true })
    .map((name) => statSync(join(folder, String(name)), { throwIfNoEntry: false })?.size ?? 0)
    .reduce((sum, size) => sum + size, 0);

async function download(packageName: string, folder: string): Promise<void> {
  const total = Number(await field(packageName, "Size"));
  const progress = startProgress(`downloading ${packageName}`);
  const timer = setInterval(() => progress.update(sizeOf(folder), total), POLL_MS);
  try {
    // As root apt drops to a user who may not write here; the sandbox is not needed to download.
    await apt("apt-get", ["download", "-q", "-o", "APT::Sandbox::User=root", packageName], folder);
  } finally {
    clearInterval(timer);
  }
  progress.finish(`${(total / 2 ** 20).toFixed(1)} MiB`);
}

function unpack(archive: string, into: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn("dpkg-deb", ["-x", archive, into], { stdio: ["ignore", "ignore", "pipe"] });
    let errors = "";
    child.stderr.on("data", (chunk) => {
      errors += String(chunk);
    });
    child.on("error", reject);
    child.on("close", (code) =>
      code === 0 ? resolve() : reject(new NoDebianPackages(`dpkg-deb: ${errors.trim()}`)),
    );
  });
}

/** The folder that holds the package's files; made at the first call, kept afterwards. */
export async function debianPackage(name: string): Promise<string> {
  const actual = name.startsWith("linux-image-") ? await resolveKernel(name) : name;
  const version = (await field(actual, "Version")).replaceAll(/[^\w.+~-]/g, "_");
  const done = join(CACHE, `${actual}_${version}`);
  if (existsSync(done)) return done;
  const work = `${done}.${process.pid}`;
  mkdirSync(join(work, "files"), { recursive: true });
  try {
    await download(actual, work);
    const archive = readdirSync(work).find((file) => file.endsWith(".deb"));
    if (archive === undefined) throw new NoDebianPackages(`apt-get left no ${actual} package`);
    await unpack(join(work, archive), join(work, "files"));
    if (!existsSync(done)) renameSync(join(work, "files"), done);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return done;
}

/** The stock kernel image of a Debian kernel package. */
export async function debianKernel(name = "linux-image-cloud-amd64"): Promise<string> {
  const boot = join(await debianPackage(name), "boot");
  const image = readdirSync(boot).find((file) => file.startsWith("vmlinuz-"));
  if (image === undefined) throw new NoDebianPackages(`${name} has no /boot/vmlinuz-*`);
  return join(boot, image);
}

/** A busybox without shared libraries. */
export const debianBusybox = async (): Promise<string> =>
  join(await debianPackage("busybox-static"), "bin", "busybox");
