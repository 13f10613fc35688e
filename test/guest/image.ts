// A Debian server on a disk image, for guests that are the real thing: debootstrap's root with systemd
// and an ssh server, a stock kernel's modules, and an initial RAM disk that mounts it. Made once and
// kept under the ignored cache folder. Needs root (debootstrap), and Debian's packages.
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { promisify } from "node:util";
import { debianBusybox, debianKernel } from "./debian.js";
import * as recipe from "./image-recipe.js";
import { buildInitrd } from "./initrd.js";
import { AHCI_MODULES, guestModules } from "./modules.js";
import { projectRoot } from "./paths.js";
import { startProgress } from "./progress.js";

const run = promisify(execFile);
const CACHE = join(projectRoot, ".cache", "image");
const KEY = "id_ed25519";

export interface DebianImage {
  /** A whole raw disk without a partition table; not to be written: copies are for guests. */
  readonly disk: string;
  readonly kernel: string;
  readonly initrd: string;
  /** Opens root's door in every copy, and lies in each of them. */
  readonly privateKey: string;
}

/** Mounts what `root=` names and goes there. */
const SWITCH_ROOT = `
mkdir /new
root=$(busybox sed -n 's/.*root=\\([^ ]*\\).*/\\1/p' /proc/cmdline)
while [ ! -b "$root" ]; do busybox sleep 0.05; done
busybox mount -t ext4 "$root" /new || exec sh
for one in dev proc sys; do busybox mount --move /$one /new/$one; done
exec busybox switch_root /new /sbin/init
`;

async function command(program: string, ...args: readonly string[]): Promise<string> {
  return (await run(program, [...args], { maxBuffer: 2 ** 26 })).stdout;
}

function write(root: string, path: string, text: string | Buffer, mode = 0o644): void {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  writeFileSync(join(root, path), text, { mode });
}

/** The modules of the kernel that boots, as its package lays them. */
async function installModules(root: string, kernel: string): Promise<void> {
  const from = join(dirname(dirname(kernel)), "lib", "modules");
  const [version = ""] = readdirSync(from);
  const leftOut = recipe.LEFT_OUT.map((folder) => join(from, version, "kernel", folder));
  cpSync(join(from, version), join(root, "lib", "modules", version), {
    recursive: true,
    filter: (path) => !leftOut.includes(path),
  });
  await command("chroot", root, "depmod", version);
}

async function installKey(root: string, folder: string): Promise<void> {
  const key = join(folder, KEY);
  await command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", key);
  mkdirSync(join(root, "root", ".ssh"), { recursive: true, mode: 0o700 });
  copyFileSync(`${key}.pub`, join(root, "root", ".ssh", "authorized_keys"));
  copyFileSync(key, join(root, "root", ".ssh", KEY));
  chmodSync(join(root, "root", ".ssh", KEY), 0o600);
}

/** Its mounts are gone with the command, too. */
async function install(root: string, packages: readonly string[]): Promise<void> {
  const apt = `apt-get update -q && apt-get install -y -q --no-install-recommends ${packages.join(" ")}`;
  const inside =
    'mount -t proc proc "$0/proc" && DEBIAN_FRONTEND=noninteractive exec chroot "$0" "$@"';
  await command("unshare", "--mount", "sh", "-c", inside, root, "/bin/sh", "-ec", apt);
}

async function makeRoot(root: string, folder: string, kernel: string): Promise<void> {
  const rules = "etc/dpkg/dpkg.cfg.d/image";
  write(root, rules, recipe.DPKG_RULES);
  const include = `--include=${recipe.PACKAGES.join(",")}`;
  // What it mounts in the root is gone with it, however it ends.
  const debootstrap = ["debootstrap", "--variant=minbase", include, recipe.SUITE, root];
  await command("unshare", "--mount", ...debootstrap);
  await install(root, recipe.LATER);
  rmSync(join(root, rules));
  for (const [path, text] of Object.entries(recipe.FILES)) write(root, path, text);
  await installKey(root, folder);
  await installModules(root, kernel);
  await command("chroot", root, "systemctl", "mask", ...recipe.MASKED);
  await command("chroot", root, "systemctl", "enable", ...recipe.ENABLED);
  await command("chroot", root, "/bin/sh", "-ec", recipe.LAST_STEPS);
}

async function makeDisk(root: string, disk: string): Promise<void> {
  writeFileSync(disk, "");
  truncateSync(disk, recipe.SIZE);
  await command("mke2fs", "-q", "-t", "ext4", "-L", "root", "-d", root, disk);
}

async function makeInitrd(file: string, kernel: string): Promise<void> {
  const modules = guestModules(kernel, ["virtio_pci", "virtio_blk", ...AHCI_MODULES]);
  const script = `${modules.script}\n${SWITCH_ROOT}`;
  const busybox = await debianBusybox();
  writeFileSync(file, buildInitrd({ busybox, files: modules.files, script }));
}

const filesIn = (folder: string, kernel: string): DebianImage => ({
  disk: join(folder, "disk.raw"),
  kernel,
  initrd: join(folder, "initrd.gz"),
  privateKey: join(folder, KEY),
});

/** Made at the first call, which takes minutes; kept afterwards. */
export async function debianImage(): Promise<DebianImage> {
  const kernel = await debianKernel("linux-image-amd64");
  const release = basename(dirname(dirname(kernel)));
  const parts = Object.entries({ ...recipe, release }).sort(([a], [b]) => (a < b ? -1 : 1));
  const digest = createHash("sha256").update(JSON.stringify(parts));
  const done = join(CACHE, digest.digest("hex").slice(0, 16));
  if (existsSync(done)) return filesIn(done, kernel);
  const work = `${done}.${process.pid}`;
  const root = join(work, "root");
  const progress = startProgress("making a Debian image (debootstrap)");
  mkdirSync(root, { recursive: true });
  try {
    await makeRoot(root, work, kernel);
    await makeDisk(root, filesIn(work, kernel).disk);
    await makeInitrd(filesIn(work, kernel).initrd, kernel);
    rmSync(root, { recursive: true, force: true });
    if (!existsSync(done)) renameSync(work, done);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  progress.finish(done);
  return filesIn(done, kernel);
}
