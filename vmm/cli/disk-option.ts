// The words after a disk device's name in -s: `PATH[,OPTION…]`, the same for virtio-blk and AHCI.
import type { BackingImage, DiskSource } from "../../api-schema/disk.js";
import { serialOf } from "../../devices/virtio-blk/model.js";
import { UsageError } from "./getopt.js";

type DiskOption = Partial<Omit<DiskSource, "path">>;

const invalid = (option: string): UsageError => new UsageError(`Invalid device option "${option}"`);

/** bhyve's flags: `direct` is O_SYNC and `nocache` O_DIRECT. */
const FLAGS: Readonly<Record<string, DiskOption>> = {
  ro: { readOnly: true },
  sync: { sync: true },
  direct: { sync: true },
  nocache: { direct: true },
};

/** What a word with an equals sign stands for, by what is before it; undefined: nothing. */
const VALUES: Readonly<Record<string, (value: string) => DiskOption | undefined>> = {
  sectorsize: (value) => {
    const sizes = /^([0-9]+)(?:\/([0-9]+))?$/.exec(value);
    if (sizes === null) return undefined;
    return { logicalSector: Number(sizes[1]), physicalSector: Number(sizes[2] ?? sizes[1]) };
  },
  /** HyperKit says `qcow`. */
  format: (value) => {
    const format = value === "qcow" ? "qcow2" : value;
    return format === "raw" || format === "qcow2" || format === "nbd" ? { format } : undefined;
  },
  export: (value) => ({ export: value }),
  scratch: (value) => (value === "" ? undefined : { scratch: value }),
};

export const DISK_OPTIONS: readonly string[] = [...Object.keys(FLAGS), ...Object.keys(VALUES)];

function parseOption(option: string): DiskOption {
  const [name = "", ...rest] = option.split("=");
  const found =
    rest.length === 0
      ? Object.hasOwn(FLAGS, name) && FLAGS[name]
      : Object.hasOwn(VALUES, name) && VALUES[name]?.(rest.join("="));
  if (!found) throw invalid(option);
  return found;
}

/** `backing=FORMAT:PATH`, nearest first. */
function parseBacking(word: string): BackingImage {
  const [, format, path] = /^backing=(raw|qcow2):(.+)$/.exec(word) ?? [];
  if ((format !== "raw" && format !== "qcow2") || path === undefined) throw invalid(word);
  return { format, path };
}

/**
 * The serial number is the original's: of everything after the device's name. Throws UsageError;
 * undefined where there is no path.
 */
export function parseDiskOptions(words: readonly string[]): DiskSource | undefined {
  const [path = "", ...options] = words;
  if (path === "") return undefined;
  const over = options.filter((word) => word.startsWith("backing="));
  const others = options.filter((word) => !word.startsWith("backing="));
  const backing = over.length === 0 ? {} : { backing: over.map(parseBacking) };
  return Object.assign(
    { path, serial: serialOf(words.join(",")), ...backing },
    ...others.map(parseOption),
  );
}
