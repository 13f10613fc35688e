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

/** Network cards, and sockets between host and guest. */
const NETWORK = [
  "net/core/failover.ko",
  "drivers/net/net_failover.ko",
  "drivers/net/virtio_net.ko",
  "net/vmw_vsock/vsock.ko",
  "net/vmw_vsock/vmw_vsock_virtio_transport_common.ko",
  "net/vmw_vsock/vmw_vsock_virtio_transport.ko",
];

export interface GuestModules {
  /** Path in the guest to content. */
  readonly files: Readonly<Record<string, Buffer>>;
  /** Shell lines that load them; `parameters` by the module's name. */
  script(parameters?: Readonly<Record<string, string>>): string;
}

/** `kernel`: an image in the unpacked package (test/guest/debian.ts). */
export function virtioModules(kernel: string, network = false): GuestModules {
  const all = join(dirname(dirname(kernel)), "lib", "modules");
  const [version = ""] = readdirSync(all);
  const path = (module: string): string => join(all, version, "kernel", module);
  const wanted = network ? [...MODULES, ...NETWORK] : MODULES;
  const names = wanted.map((module) => basename(module, ".ko"));
  return {
    files: Object.fromEntries(wanted.map((one) => [basename(one), readFileSync(path(one))])),
    script: (parameters = {}) =>
      names.map((name) => `busybox insmod /${name}.ko ${parameters[name] ?? ""}`).join("\n"),
  };
}
