// The guest of this bench: Debian's cloud kernel, and an initial RAM file system whose /init is the
// one program of bench/cpu/guest, which runs natively too.
import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { constants, deflateRawSync } from "node:zlib";
import { writeCpio } from "../../test/guest/cpio.js";
import { debianKernel } from "../../test/guest/debian.js";
import { projectRoot } from "../../test/guest/paths.js";

const SOURCES = join(projectRoot, "bench", "cpu", "guest");
const OUT = join(projectRoot, "build", "bench");
const TEXT_BYTES = 1_000_000;
const WORDS = 500;

// No loop may become a call of the C library's memcpy or memset, which choose by CPUID.
const FLAGS = [
  ..."-O2 -march=x86-64-v2 -static -std=gnu11 -Wall -Wextra".split(" "),
  ...["-fno-tree-loop-distribute-patterns", "-fno-math-errno"],
];

export interface Images {
  readonly kernel: string;
  readonly initrd: string;
  /** The same program for the host. */
  readonly program: string;
}

/** Text of words, the same every time. */
function text(): string {
  let seed = 1;
  const random = (below: number): number => {
    seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
    return (seed >>> 8) % below;
  };
  const word = (): string =>
    Array.from({ length: 2 + random(8) }, () => "etaoinshrdlu"[random(12)]).join("");
  const words = Array.from({ length: WORDS }, word);
  const all: string[] = [];
  for (let length = 0; length < TEXT_BYTES; length += (all.at(-1)?.length ?? 0) + 1)
    all.push(words[random(WORDS)] ?? "");
  return all.join(" ").slice(0, TEXT_BYTES);
}

function writeDeflated(): void {
  const packed = deflateRawSync(text(), { level: 6, strategy: constants.Z_DEFAULT_STRATEGY });
  const bytes = [...packed].join(",");
  writeFileSync(
    join(OUT, "inflate_data.h"),
    `static const unsigned char kDeflated[] = {${bytes}};\n`,
  );
}

function compile(): string {
  const program = join(OUT, "programs");
  const sources = readdirSync(SOURCES).filter((name) => name.endsWith(".c"));
  execFileSync("gcc", [...FLAGS, "-I", OUT, "-o", program, ...sources], {
    cwd: SOURCES,
    stdio: "inherit",
  });
  return program;
}

export async function buildImages(): Promise<Images> {
  mkdirSync(OUT, { recursive: true });
  writeDeflated();
  const program = compile();
  const initrd = join(OUT, "initrd.cpio");
  writeFileSync(
    initrd,
    writeCpio([
      { kind: "directory", path: "dev", mode: 0o755 },
      { kind: "character-device", path: "dev/console", mode: 0o600, major: 5, minor: 1 },
      { kind: "file", path: "init", mode: 0o755, data: readFileSync(program) },
    ]),
  );
  return { kernel: await debianKernel(), initrd, program };
}
