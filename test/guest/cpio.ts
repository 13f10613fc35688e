// A writer of cpio archives in the "new ASCII" format, which Linux unpacks as an initramfs
// (Linux Documentation, driver-api/early-userspace/buffer-format.rst, "initramfs buffer format").

export type CpioEntry =
  | { readonly kind: "file"; readonly path: string; readonly mode: number; readonly data: Buffer }
  | { readonly kind: "directory"; readonly path: string; readonly mode: number }
  | { readonly kind: "symlink"; readonly path: string; readonly target: string }
  | {
      readonly kind: "character-device";
      readonly path: string;
      readonly mode: number;
      readonly major: number;
      readonly minor: number;
    };

const TYPE_BITS = {
  file: 0o100000,
  directory: 0o040000,
  symlink: 0o120000,
  "character-device": 0o020000,
} as const satisfies Record<CpioEntry["kind"], number>;

const hex8 = (value: number): string => value.toString(16).toUpperCase().padStart(8, "0");

const padTo4 = (length: number): Buffer => Buffer.alloc((4 - (length % 4)) % 4);

function record(inode: number, entry: CpioEntry | undefined): Buffer {
  const name = entry?.path ?? "TRAILER!!!";
  const body =
    entry?.kind === "file"
      ? entry.data
      : Buffer.from(entry?.kind === "symlink" ? entry.target : "", "utf8");
  const permissions = entry === undefined ? 0 : entry.kind === "symlink" ? 0o777 : entry.mode;
  const device = entry?.kind === "character-device" ? entry : { major: 0, minor: 0 };
  const nameSize = Buffer.byteLength(name) + 1;
  const fields = [
    inode,
    entry === undefined ? 0 : TYPE_BITS[entry.kind] | permissions,
    0, // uid
    0, // gid
    entry?.kind === "directory" ? 2 : 1, // links
    0, // mtime: archives made from the same input are the same
    body.length,
    0, // device of the file, major and minor
    0,
    device.major,
    device.minor,
    nameSize,
    0, // check: of the "070702" format only
  ];
  const head = Buffer.from(`070701${fields.map(hex8).join("")}${name}\0`, "utf8");
  return Buffer.concat([head, padTo4(head.length), body, padTo4(body.length)]);
}

/** Entries in the order given; parents must come before what lies in them. */
export function writeCpio(entries: readonly CpioEntry[]): Buffer {
  const records = entries.map((entry, index) => record(index + 1, entry));
  return Buffer.concat([...records, record(0, undefined)]);
}
