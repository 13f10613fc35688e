// What a VM process still reaches by name when its machine stands and all that it is made of has been
// opened: its own folder, the history of its console, logs that begin anew at their limit, sockets
// that it listens on or connects to again. States are saved there too, in the VM's own folder; discs
// and captures come as descriptors.
import { realpathSync } from "node:fs";
import { basename, dirname, join, relative, resolve } from "node:path";
import type { PciDevice } from "../../api-schema/definition.js";
import type { DiskSource } from "../../api-schema/disk.js";
import { type LaunchFile, runtimeFiles } from "../../api-schema/vm-process.js";
import { sourcesOf } from "../disks.js";
import { switchFolder } from "../networks/switch-folder.js";
import { backendOf, isCard } from "../networks.js";
import type { Need, Use } from "./sandbox.js";
import { portsOf } from "./serial.js";

const need = (use: Use, path: string): Need => ({ use, path });

/** Of the VM whose runtime folder this is. */
export function needsOf(folder: string, launch: LaunchFile): Need[] {
  const { definition } = launch;
  const console = launch.console.file ?? join(folder, runtimeFiles.console);
  const named = [
    need("own", folder),
    need("listener", join(folder, runtimeFiles.socket)),
    need("listener", join(folder, runtimeFiles.files)),
    need("history", console),
    need("folder", dirname(console)),
    ...serialNeeds(definition),
    ...definition.devices.flatMap((device) => [
      ...sourcesOf(device).flatMap((source) => (source === undefined ? [] : diskNeeds(source))),
      ...linkNeeds(device),
    ]),
  ];
  return [...named, ...walked(named, launch.folders ?? [])].flatMap(({ use, path }) =>
    namesOf(path).map((name) => need(use, name)),
  );
}

/** Output files are moved to PATH.1; a terminal or none has no name of ours. */
function serialNeeds(definition: LaunchFile["definition"]): Need[] {
  const grown = (path: string): Need[] => [need("file", path), need("file", `${path}.1`)];
  return portsOf(definition).flatMap(({ port: { backend, path, log } }) => {
    const logged = log === undefined ? [] : grown(log);
    if (path === undefined) return logged;
    if (backend === "file") return [...logged, ...grown(path)];
    if (backend === "socket") return [...logged, need("listener", path)];
    return backend === "pty" ? [...logged, need("file", path)] : logged;
  });
}

function diskNeeds({ path, format, readOnly, scratch }: DiskSource): Need[] {
  if (format === "nbd") return [need("server", path)];
  return readOnly === true || scratch !== undefined ? [] : [need("disk", path)];
}

function linkNeeds(device: PciDevice): Need[] {
  if (device.type === "virtio-sock")
    return [need("listener", device.socket), need("ports", device.socket)];
  if (!isCard(device)) return [];
  const backend = backendOf(device);
  if (backend.kind === "stream") return [need("server", backend.socket)];
  return backend.kind === "switch" ? [need("switch", switchFolder(backend.network))] : [];
}

/** What is opened beneath a folder is reached through each folder on the way: beneath.h. */
function walked(needs: readonly Need[], folders: readonly string[]): Need[] {
  const files = needs.filter(({ use }) => use === "file").map(({ path }) => resolve(path));
  return folders.flatMap((folder) =>
    files.flatMap((file) =>
      foldersBetween(folder, dirname(file)).map((one) => need("folder", one)),
    ),
  );
}

/** Both of them too; none where the last does not lie in the first. */
function foldersBetween(first: string, last: string): string[] {
  const way = relative(first, last);
  if (way === ".." || way.startsWith("../")) return [];
  const steps = way.split("/").filter((step) => step !== "");
  return [first, ...steps.map((_, at) => join(first, ...steps.slice(0, at + 1)))];
}

/**
 * As the definition has it and as the kernel does: on macOS /tmp and /var are links. What is not there
 * yet is named by its folder.
 */
function namesOf(path: string): string[] {
  const absolute = resolve(path);
  for (const [name, rest] of [
    [absolute, ""],
    [dirname(absolute), basename(absolute)],
  ] as const) {
    try {
      return [...new Set([absolute, join(realpathSync(name), rest)])];
    } catch {
      // not there, or not to be looked at
    }
  }
  return [absolute];
}
