// The virtio drivers of a Debian kernel, which are modules, for an initial RAM file system.
import { readdirSync, readFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";

/** In the order in which one needs the other. */
const MODULES = [
  "drivers/virtio/virtio_ring.ko",
  "drivers/virtio/virtio.ko",
  "drivers/virtio/virtio_pci_legacy_dev.ko",
  "drivers/virtio/virtio_pci_modern_dev.ko",
  "drivers/virtio/virtio_pci.ko",
  "drivers/block/virtio_blk.ko",
  "drivers/char/hw_random/virtio-rng.ko",
  "drivers/char/virtio_console.ko",
];

export interface GuestModules {
  /** Path in the guest to content. */
  readonly files: Readonly<Record<string, Buffer>>;
  /** Shell lines that load them; `parameters` by the module's name. */
  script(parameters?: Readonly<Record<string, string>>): string;
}

/** `kernel`: an image in the unpacked package (test/guest/debian.ts). */
export function virtioModules(kernel: string): GuestModules {
  const all = join(dirname(dirname(kernel)), "lib", "modules");
  const [version = ""] = readdirSync(all);
  const path = (module: string): string => join(all, version, "kernel", module);
  const names = MODULES.map((module) => basename(module, ".ko"));
  return {
    files: Object.fromEntries(MODULES.map((one) => [basename(one), readFileSync(path(one))])),
    script: (parameters = {}) =>
      names.map((name) => `busybox insmod /${name}.ko ${parameters[name] ?? ""}`).join("\n"),
  };
}
