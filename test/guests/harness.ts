// Builds the conformance guests, runs them under our VM and under QEMU, and compares the logs.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export type Guest = { readonly name: string; readonly cpus: number };
const one = (name: string): Guest => ({ name, cpus: 1 });
export const GUESTS: readonly Guest[] = [
  ...[
    "probe",
    "paging32",
    "paging-pae",
    "paging64",
    "segments",
    "gates",
    "real",
    "v86",
    "tasks",
    "debug",
    "fpu-exceptions",
    "long",
    "smc",
  ].map(one),
  { name: "smp", cpus: 4 },
];

/** The log of a machine, or why there is none. */
export type Run = { readonly log: string } | { readonly failure: string };
export type Witness = "tcg" | "kvm";

const TIME_LIMIT = 150_000;
/** QEMU under a KVM that cannot go on stops without ending. */
const PROBE_LIMIT = 30_000;
const MEMORY = "64M";
/** A guest that went to its end writes 0 to port 0xF4: (0 << 1) | 1, under both machines. */
const STATUS_OF_END = 1;

type Paths = { readonly root: string };
const image = (paths: Paths, guest: Guest): string =>
  join(paths.root, "build", "guests", `${guest.name}.elf`);
export const expectedLog = (paths: Paths, guest: Guest): string =>
  join(paths.root, "test", "guests", "expected", `${guest.name}.log`);

export function build(paths: Paths): void {
  const folder = join(paths.root, "test", "guests");
  const { status, stderr, error } = spawnSync("make", ["-s", "-C", folder], { encoding: "utf8" });
  if (status !== 0) throw new Error(`the guests do not build: ${error?.message ?? stderr}`);
}

type How = {
  readonly log: (stdout: string) => string;
  readonly env?: NodeJS.ProcessEnv;
  readonly timeout?: number | undefined;
};
function outcome(command: string, args: readonly string[], how: How): Run {
  const { status, signal, stdout, stderr, error } = spawnSync(command, args, {
    encoding: "utf8",
    timeout: how.timeout ?? TIME_LIMIT,
    env: how.env ?? process.env,
    stdio: ["ignore", "pipe", "pipe"],
  });
  const text = how.log(stdout);
  if (status === STATUS_OF_END && text.endsWith("end\n")) return { log: text };
  const ended = error?.message ?? (signal === null ? `status ${status}` : `signal ${signal}`);
  const why = stderr.trim().split("\n").slice(0, 3).join("; ");
  const tail = text.trimEnd().split("\n").slice(-4).join("\n  ");
  return { failure: `${ended}; ${why}\n  ${tail}` };
}

/** How our CPU runs the code: as users have it, or all by one of its two engines. */
export type Engine = "both" | "interpreter" | "eager";

export interface Ours {
  readonly accelerator?: "soft" | "hvf";
  readonly engine?: Engine;
  /** The node that runs us, with its first arguments; this one where absent. */
  readonly node?: readonly string[];
  /** The folder of the addons (XHYVED_NATIVE). */
  readonly addons?: string;
  /** Milliseconds, where the host that runs us is emulated itself. */
  readonly timeout?: number;
}

export function runOurs(paths: Paths, guest: Guest, how: Ours = {}): Run {
  const { accelerator = "soft", engine = "both", node = [process.execPath], addons, timeout } = how;
  const machine = ["-A", "-m", MEMORY, "-c", String(guest.cpus), "-s", "0:0,hostbridge"];
  const lpc = ["-s", "31,lpc", "-l", "com1,stdio", "-l", "debugexit"];
  const what = ["-f", `multiboot,${image(paths, guest)}`];
  const xhyve = join(paths.root, "bin", "xhyve");
  const [command = process.execPath, ...before] = node;
  const args = [...before, xhyve, "--accel", accelerator, ...machine, ...lpc, ...what];
  const env = { ...process.env, XHYVED_SOFTCPU: engine, XHYVED_NATIVE: addons };
  return outcome(command, args, { log: (stdout) => stdout.replaceAll("\r", ""), env, timeout });
}

const QEMU = "qemu-system-x86_64";
/** MAX_CPU: all that the witness can do; guests ask CPUID before they use what is not everywhere. */
const MAX_CPU: Record<Witness, string> = {
  tcg: "max,vendor=GenuineIntel",
  kvm: "host,-arch-capabilities",
};

export function runQemu(paths: Paths, guest: Guest, witness: Witness, timeout?: number): Run {
  const folder = mkdtempSync(join(tmpdir(), "guest-"));
  const log = join(folder, "serial");
  const machine = ["-accel", witness, "-cpu", MAX_CPU[witness], "-smp", String(guest.cpus)];
  const plain = ["-m", MEMORY, "-nodefaults", "-no-reboot", "-display", "none"];
  const devices = ["-serial", `file:${log}`, "-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"];
  try {
    writeFileSync(log, "");
    const args = [...machine, ...plain, ...devices, "-kernel", image(paths, guest)];
    return outcome(QEMU, args, { log: () => readFileSync(log, "utf8"), timeout });
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Why there is no such witness here; undefined where there is one. */
export function missing(paths: Paths, witness: Witness): string | undefined {
  if (spawnSync(QEMU, ["--version"]).status !== 0) return `${QEMU} is not installed`;
  if (witness === "tcg") return undefined;
  const probe = runQemu(paths, one("probe"), "kvm", PROBE_LIMIT);
  if ("failure" in probe) return `/dev/kvm does not run a small guest: ${probe.failure}`;
  const expected = readFileSync(expectedLog(paths, one("probe")), "utf8");
  if (probe.log === expected) return undefined;
  const [wrong] = differences(paths, "probe", expected, probe.log, "kvm");
  return `/dev/kvm here does not do what every CPU does: ${wrong}`;
}

/**
 * A difference from a witness, and what says that ours is right (or may be). `theirs` and `ours`
 * are patterns of the whole outcome, and what their groups catch must be equal; or `instead` says which words of theirs are which of ours.
 */
type Tolerated = {
  readonly guest: string;
  readonly line: string;
  readonly ours?: string;
  readonly theirs?: string;
  readonly instead?: Readonly<Record<string, string>>;
  readonly witness: string;
  readonly because: string;
};
const groups = (pattern: string, text: string): string | undefined =>
  new RegExp(`^(?:${pattern})$`).exec(text)?.slice(1).join("\n");
const whole = (pattern: string, text: string): boolean => groups(pattern, text) !== undefined;

function split(line: string): readonly [string, string] {
  const colon = line.indexOf(":");
  return colon < 0 ? [line, ""] : [line.slice(0, colon), line.slice(colon + 1).trimStart()];
}

function allows(one: Tolerated, ours: string, theirs: string): boolean {
  const { instead } = one;
  if (instead === undefined) {
    const same = groups(one.ours ?? "", ours);
    return same !== undefined && same === groups(one.theirs ?? "", theirs);
  }
  return theirs.replace(/[^ =.]+/g, (word) => instead[word] ?? word) === ours;
}

const readList = (paths: Paths): readonly Tolerated[] =>
  JSON.parse(readFileSync(join(paths.root, "test", "guests", "tolerated.json"), "utf8"));

function isTolerated(
  list: readonly Tolerated[],
  guest: string,
  ours: string,
  theirs: string,
  witness: Witness,
): boolean {
  const [name, mine] = split(ours);
  const [otherName, other] = split(theirs);
  const matches = (one: Tolerated): boolean =>
    whole(one.guest, guest) &&
    one.witness.split(" ").includes(witness) &&
    whole(one.line, name) &&
    allows(one, mine, other);
  return name === otherName && list.some(matches);
}

/** Line by line; what the list tolerates is left out. */
export function differences(
  paths: Paths,
  guest: string,
  ours: string,
  theirs: string,
  witness?: Witness,
): readonly string[] {
  const mine = ours.split("\n");
  const others = theirs.split("\n");
  const list = witness === undefined ? [] : readList(paths);
  const found: string[] = [];
  for (let n = 0; n < Math.max(mine.length, others.length); ++n) {
    const [a = "(nothing)", b = "(nothing)"] = [mine[n], others[n]];
    if (a === b) continue;
    if (witness !== undefined && isTolerated(list, guest, a, b, witness)) continue;
    found.push(`line ${n + 1}\n  ours:   ${a}\n  theirs: ${b}`);
  }
  return found;
}
