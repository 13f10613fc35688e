// The words after an AHCI controller's name in -s: `ahci-hd,PATH[,OPTION…]`, `ahci-cd,[PATH]`, and
// bhyve's `ahci,hd:PATH[,OPTION…],cd:[PATH],…` with a port for each.
import type { AhciPort } from "../../api-schema/ahci.js";
import type { DiskSource } from "../../api-schema/disk.js";
import { serialOf } from "../../devices/virtio-blk/model.js";
import { parseDiskOptions } from "./disk-option.js";
import { UsageError } from "./getopt.js";

type Drive = Omit<Extract<AhciPort, { type: "cd" }>, "type">;

/** Throws UsageError with the original's message. */
export function parseAhciDisk(words: readonly string[]): DiskSource {
  const source = parseDiskOptions(words);
  if (source === undefined) throw new UsageError("pci_ahci: backing device required");
  return source;
}

/** A disc, or an empty drive. A disc is only ever read: most options of a disk say nothing then. */
export function parseAhciDrive(words: readonly string[]): Drive {
  const source = parseDiskOptions(words);
  if (source === undefined) return { serial: serialOf(words.join(",")) };
  const { path, serial, format, export: name } = source;
  return {
    path,
    ...(serial !== undefined && { serial }),
    ...(format !== undefined && { format }),
    ...(name !== undefined && { export: name }),
  };
}

export function parseAhciPorts(words: readonly string[]): AhciPort[] {
  const ports: string[][] = [];
  for (const word of words) {
    if (/^(hd|cd):/.test(word)) ports.push([word]);
    else ports.at(-1)?.push(word);
  }
  if (ports.length === 0 || !/^(hd|cd):/.test(words[0] ?? ""))
    throw new UsageError("pci_ahci: hd:PATH or cd:[PATH] expected for each port");
  return ports.map(([first = "", ...options]) => {
    const rest = [first.slice("hd:".length), ...options];
    if (first.startsWith("cd:")) return { type: "cd", ...parseAhciDrive(rest) };
    return { type: "hd", ...parseAhciDisk(rest) };
  });
}
