// The initial RAM file system of the demo and of tests: busybox, and an /init of ours.
import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { type CpioEntry, writeCpio } from "./cpio.js";

/** What /init prints first: user space has begun. */
export const USER_SPACE_MARKER = "xhyved: user space";
/** The prompt of the shell that /init ends in. */
export const SHELL_PROMPT = "guest# ";

const APPLETS = [
  "cat date dd dmesg echo grep halt hostname ls mkdir mount nproc poweroff printf ps reboot sh",
  "seq sleep sync taskset timeout top uname uptime wc yes md5sum hwclock setsid cttyhack stty tr kill",
]
  .join(" ")
  .split(" ");

const INIT = `#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
echo "${USER_SPACE_MARKER}"
export PATH=/bin PS1='${SHELL_PROMPT}' HOME=/
hostname guest
@EXTRA@
# As with "quiet": only errors may come between the lines of a command that is typed from here on.
dmesg -n 4
exec setsid cttyhack sh
`;

const DIRECTORIES = ["bin", "dev", "proc", "sys", "tmp", "root"];

/** The folders that a file is in, the outermost first. */
const parentsOf = (path: string): string[] =>
  path
    .split("/")
    .slice(0, -1)
    .map((_, index, names) => names.slice(0, index + 1).join("/"));

const directory = (path: string): CpioEntry => ({ kind: "directory", path, mode: 0o755 });

export interface InitrdOptions {
  /** Path of a static busybox on the host. */
  readonly busybox: string;
  /** Shell lines that /init runs before the shell. */
  readonly script?: string;
  /** More files: path in the guest to content. */
  readonly files?: Readonly<Record<string, Buffer>>;
}

/** A gzip-compressed cpio archive. */
export function buildInitrd({ busybox, script = "", files = {} }: InitrdOptions): Buffer {
  const init = Buffer.from(INIT.replace("@EXTRA@", () => script));
  const entries: CpioEntry[] = [
    ...[...new Set([...DIRECTORIES, ...Object.keys(files).flatMap(parentsOf)])].map(directory),
    { kind: "character-device", path: "dev/console", mode: 0o600, major: 5, minor: 1 },
    { kind: "file", path: "bin/busybox", mode: 0o755, data: readFileSync(busybox) },
    ...APPLETS.map(
      (name): CpioEntry => ({ kind: "symlink", path: `bin/${name}`, target: "busybox" }),
    ),
    { kind: "file", path: "init", mode: 0o755, data: init },
    ...Object.entries(files).map(
      ([path, data]): CpioEntry => ({ kind: "file", path, mode: 0o755, data }),
    ),
  ];
  return gzipSync(writeCpio(entries));
}
