// Modules of a Debian kernel for an initial RAM file system, with those that they depend on.
import { readdirSync, readFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";

export interface GuestModules {
  /** Path in the guest to content. */
  readonly files: Readonly<Record<string, Buffer>>;
  /** Shell lines that load them. */
  readonly script: string;
}

/** AHCI disks and CDs, and the file systems on them. */
export const AHCI_MODULES = [
  ...["ahci", "sd_mod", "sr_mod", "sg", "crc32c_generic", "crct10dif_generic"],
  ...["crc64_rocksoft_generic", "ext4", "isofs"],
] as const;

/** Names are written with either - or _. */
const plain = (name: string): string => basename(name, ".ko").replaceAll("-", "_");

/** What its `modinfo` section says. */
const dependenciesOf = (module: Buffer): string[] =>
  (/\0depends=([^\0]*)\0/.exec(module.toString("latin1"))?.[1] ?? "").split(",").filter(Boolean);

/** `kernel`: an image in the unpacked package (test/guest/debian.ts). What is built in is left out. */
export function guestModules(kernel: string, wanted: readonly string[]): GuestModules {
  const all = join(dirname(dirname(kernel)), "lib", "modules");
  const [version = ""] = readdirSync(all);
  const root = join(all, version, "kernel");
  const paths = new Map(
    readdirSync(root, { recursive: true })
      .map(String)
      .filter((path) => path.endsWith(".ko"))
      .map((path) => [plain(path), join(root, path)]),
  );
  const loaded = new Map<string, Buffer>();
  const load = (name: string): void => {
    const path = paths.get(plain(name));
    if (path === undefined || loaded.has(plain(name))) return;
    const module = readFileSync(path);
    for (const other of dependenciesOf(module)) load(other);
    loaded.set(plain(name), module);
  };
  for (const name of wanted) load(name);
  return {
    files: Object.fromEntries([...loaded].map(([name, module]) => [`${name}.ko`, module])),
    script: [...loaded.keys()].map((name) => `busybox insmod /${name}.ko`).join("\n"),
  };
}
