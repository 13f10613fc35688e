// The sandbox of a VM process on macOS: a profile, as text, for sandbox_init(3). What seccomp says on
// Linux by system calls is said here by what is asked for and by whose name: nothing is allowed but
// what stands below. Descriptors that are open already work on; the kernel looks at names when
// something is opened, made, removed, cut off, connected to or accepted.
//
// Profiles are programs in Scheme (sandbox-exec(1); the system's own lie in /usr/share/sandbox and
// /System/Library/Sandbox/Profiles). Apple documents the mechanism, not the language: only forms are
// used here that browsers' and build tools' profiles have used for years, and names that came with a
// later macOS stand behind `defined?`.

/** What a path is for once the machine stands. */
export const uses = [
  "own",
  "file",
  "history",
  "disk",
  "folder",
  "listener",
  "server",
  "ports",
  "switch",
] as const;
export type Use = (typeof uses)[number];

/** Absolute, and without links: the kernel knows files by no other name. */
export interface Need {
  readonly use: Use;
  readonly path: string;
}

/**
 * A string of the language: TinyScheme's, whose `\x` takes two hexadecimal digits. A name may hold
 * anything but NUL; none ends the string, or begins a form.
 */
export function quoted(text: string): string {
  const escaped = (character: string): string =>
    character === '"' || character === "\\"
      ? `\\${character}`
      : `\\x${character.charCodeAt(0).toString(16).padStart(2, "0")}`;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  return `"${text.replace(/["\\\u0000-\u001f\u007f]/g, escaped)}"`;
}

/** Of an extended regular expression (re_format(7)). */
const literally = (path: string): string => path.replace(/[\\^$.[\]{}()*+?|]/g, "\\$&");

const literal = (path: string): string => `(literal ${quoted(path)})`;
const subpath = (path: string): string => `(subpath ${quoted(path)})`;
/** The path with `mark` and a number behind it. */
const numbered =
  (mark: string) =>
  (path: string): string =>
    `(regex ${quoted(`^${literally(path + mark)}[0-9]+$`)})`;

const local = (filter: string): string => `(local unix-socket ${filter})`;
const remote = (filter: string): string => `(remote unix-socket ${filter})`;

const allow = (operations: string, ...filters: readonly string[]): string =>
  `(allow ${operations} ${filters.join(" ")})`;
const CHANGE = "file-read* file-write*";

const RULES: { readonly [U in Use]: (path: string) => readonly string[] } = {
  /** A folder of the VM's own: all beneath it is read, made, changed and removed. */
  own: (path) => [allow(CHANGE, subpath(path))],
  /** One that is opened again, moved or removed. */
  file: (path) => [allow(CHANGE, literal(path))],
  /** The files PATH.NUMBER of a console's history. */
  history: (path) => [allow(CHANGE, numbered(".")(path))],
  /** An image that is open for writing: cutting it off is looked at by its name. */
  disk: (path) => [allow("file-write-data", literal(path))],
  /** One that is listed, or walked through. */
  folder: (path) => [allow("file-read*", literal(path))],
  /** A Unix socket that is listened on, and whose name is taken away at the end. */
  listener: (path) => [
    allow(CHANGE, literal(path)),
    allow("network-inbound", local(literal(path))),
  ],
  /** A Unix socket that is connected to again when it was lost. */
  server: (path) => [allow("network-outbound", remote(literal(path)))],
  /** The Unix sockets PATH_NUMBER. */
  ports: (path) => [allow("network-outbound", remote(numbered("_")(path)))],
  /** Where the cards of a switch meet: later ones connect to ours, whose name is taken away. */
  switch: (path) => [
    allow("file-read* file-write-unlink", subpath(path)),
    allow("network-inbound", local(subpath(path))),
  ],
};

const SYSTEM = ["/usr/lib", "/System/Library", "/System/Volumes/Preboot/Cryptexes"].map(subpath);
const CLOCK = ["/usr/share/zoneinfo", "/private/var/db/timezone", "/private/etc/localtime"];
const RANDOM = ["/dev/random", "/dev/urandom"].map(literal);

/** The same for every VM. */
const COMMON = [
  "(version 1)",
  "(deny default)",
  // These are not among what the default covers.
  "(deny process-info*)",
  "(if (defined? 'nvram*) (deny nvram*))",
  "(if (defined? 'file-map-executable) (deny file-map-executable))",
  // Itself: its threads, its memory, the code that V8 makes.
  "(allow process-info* (target self))",
  "(allow signal (target self))",
  "(allow sysctl-read)",
  "(if (defined? 'dynamic-code-generation) (allow dynamic-code-generation))",
  // The system's libraries, as far as they are loaded when they are first called.
  allow("file-read*", ...SYSTEM),
  `(if (defined? 'file-map-executable) ${allow("file-map-executable", ...SYSTEM)})`,
  allow("file-read*", ...RANDOM, ...CLOCK.map(subpath)),
  allow("file-read* file-write-data", literal("/dev/null"), subpath("/dev/fd")),
  // Disks and terminals that are open: others cannot be opened.
  allow("file-ioctl", subpath("/dev")),
  // Sockets can be made; which may be connected to is said below.
  "(allow system-socket (socket-domain AF_UNIX))",
];

/** The profile of a VM that needs these. The same needs give the same text. */
export function sandboxProfile(needs: readonly Need[]): string {
  const rules = needs.flatMap(({ use, path }) => RULES[use](path));
  return `${[...COMMON, ...new Set(rules)].join("\n")}\n`;
}
