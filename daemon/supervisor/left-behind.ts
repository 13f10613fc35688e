// Names that a VM process made on the host and left there: it was killed, or had become a user who
// may not take them away. Only sockets that nobody listens on any more go, and links to terminals.
import { lstatSync, readlinkSync, rmSync } from "node:fs";
import { connect } from "node:net";
import type { VmDefinition } from "../../api-schema/index.js";

interface Names {
  readonly sockets: readonly string[];
  readonly links: readonly string[];
}

function namesOf({ serial, devices }: VmDefinition): Names {
  const ports = [
    serial.com1,
    serial.com2,
    ...devices.flatMap((device) =>
      "serial" in device && typeof device.serial === "object" ? [device.serial] : [],
    ),
  ];
  const of = (backend: string): string[] =>
    ports.flatMap((port) => (port.backend === backend && port.path ? [port.path] : []));
  const vsock = devices.flatMap((device) => (device.type === "virtio-sock" ? [device.socket] : []));
  return { sockets: [...of("socket"), ...vsock], links: of("pty") };
}

const isDeaf = (path: string): Promise<boolean> =>
  new Promise((resolve) => {
    const probe = connect(path, () => resolve(false));
    probe.once("error", (error) => resolve("code" in error && error.code === "ECONNREFUSED"));
    probe.once("connect", () => probe.destroy());
  });

async function removeSocket(path: string): Promise<void> {
  const found = lstatSync(path);
  if (!found.isSocket() || !(await isDeaf(path))) return;
  // Another VM may have taken the path over meanwhile.
  if (lstatSync(path).ino === found.ino) rmSync(path, { force: true });
}

async function removeLink(path: string): Promise<void> {
  if (readlinkSync(path).startsWith("/dev/")) rmSync(path, { force: true });
}

/** Of a VM whose process is no more. What cannot be looked at stays. */
export async function removeLeftBehind(definition: VmDefinition): Promise<void> {
  const { sockets, links } = namesOf(definition);
  await Promise.allSettled([...sockets.map(removeSocket), ...links.map(removeLink)]);
}
