// The folders of a VM: one in the runtime folder (socket, lock, status: gone after a reboot), one
// in the state folder (the console's history, the process's log: kept).
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  type LaunchFile,
  runtimeFiles,
  type VmDefinition,
  VmError,
} from "../../api-schema/index.js";

const MAX_SOCKET_PATH = 103; // sockaddr_un on macOS, without the final NUL

export class VmFolders {
  readonly #stateDir: string;
  readonly #runtimeDir: string;

  constructor(stateDir: string, runtimeDir: string) {
    this.#stateDir = stateDir;
    this.#runtimeDir = runtimeDir;
  }

  /** The runtime folder of a VM: its UUID without hyphens, since socket paths are short. */
  of(uuid: string): string {
    return join(this.#runtimeDir, "vm", uuid.replaceAll("-", "").toLowerCase());
  }

  socket(uuid: string): string {
    return join(this.of(uuid), runtimeFiles.socket);
  }

  /** Kept over restarts of the VM. */
  kept(uuid: string): string {
    return join(this.#stateDir, "vms", uuid.toLowerCase());
  }

  console(uuid: string): string {
    return join(this.kept(uuid), runtimeFiles.console);
  }

  /** A fresh runtime folder with its launch file. */
  prepare(definition: VmDefinition, nonce: string): string {
    const folder = this.of(definition.uuid);
    const socket = this.socket(definition.uuid);
    if (Buffer.byteLength(socket) > MAX_SOCKET_PATH)
      throw new VmError("SOCKET_PATH_TOO_LONG", [socket, Buffer.byteLength(socket)]);
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    mkdirSync(this.kept(definition.uuid), { recursive: true, mode: 0o700 });
    const launch: LaunchFile = {
      nonce,
      definition,
      start: false,
      onReset: "restart",
      console: { file: this.console(definition.uuid), limit: 16 * 2 ** 20 },
      linger: 0,
    };
    writeFileSync(join(folder, runtimeFiles.launch), JSON.stringify(launch), { mode: 0o600 });
    return folder;
  }

  remove(uuid: string): void {
    rmSync(this.of(uuid), { recursive: true, force: true });
    rmSync(this.kept(uuid), { recursive: true, force: true });
  }
}
