// The Unix sockets of a definition's socket devices, listened on before there is a VM.
import type { PciDevice } from "../api-schema/definition.js";
import { reasonOf, VmError } from "../api-schema/errors.js";
import { UnixVsockHost, type VsockHost } from "../devices/virtio-vsock/host.js";
import { checkSocketPath } from "./process/server.js";

/** A port's number is appended to it. */
const LONGEST_PORT = "_4294967295";

export class HostSockets {
  readonly #open = new Map<string, VsockHost>();

  /** Throws VmError SOCKET_FAILED or SOCKET_PATH_TOO_LONG, with nothing left open. */
  static async open(devices: readonly PciDevice[]): Promise<HostSockets> {
    const all = new HostSockets();
    try {
      for (const device of devices)
        if (device.type === "virtio-sock")
          all.#open.set(device.slot, await listen(device.slot, device.socket));
    } catch (error) {
      all.close();
      throw error;
    }
    return all;
  }

  /** The caller's from here on. */
  take(slot: string): VsockHost {
    const found = this.#open.get(slot);
    if (found === undefined) throw new Error(`no socket is open for slot ${slot}`);
    this.#open.delete(slot);
    return found;
  }

  /** Those that nobody took. */
  close(): void {
    for (const host of this.#open.values()) host.close();
    this.#open.clear();
  }
}

async function listen(slot: string, path: string): Promise<VsockHost> {
  checkSocketPath(`${path}${LONGEST_PORT}`);
  try {
    return await UnixVsockHost.listen(path);
  } catch (error) {
    throw new VmError("SOCKET_FAILED", [`virtio-sock ${slot}`, path, reasonOf(error)], {
      cause: error,
    });
  }
}
