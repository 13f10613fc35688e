// Assembles guests.S into guests.inc: `constexpr std::uint8_t k_NAME[] = {…};` for each symbol.
// Needs binutils of x86-64 (as, nm, objcopy); the result is checked in, so that building the
// tests needs none.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const room = mkdtempSync(join(tmpdir(), "guests-"));
const object = join(room, "guests.o");
const image = join(room, "guests.bin");
execFileSync("as", ["--64", "-o", object, join(here, "guests.S")]);
execFileSync("objcopy", ["-O", "binary", "-j", ".text", object, image]);
const symbols = execFileSync("nm", ["-n", object], { encoding: "utf8" })
  .split("\n")
  .map((line) => /^([0-9a-f]+) t (\w+)$/.exec(line))
  .filter((match) => match !== null)
  .map(([, at, name]) => ({ at: Number.parseInt(at, 16), name }));
const bytes = readFileSync(image);
rmSync(room, { recursive: true });

const hex = (byte) => `0x${byte.toString(16).padStart(2, "0")}`;
const wrap = (list) =>
  (list.match(/(?:\S+ ?){1,16}/g) ?? []).map((line) => `    ${line.trimEnd()}`);
const rows = symbols.slice(0, -1).flatMap(({ at, name }, i) => {
  const code = [...bytes.subarray(at, symbols[i + 1].at)].map((byte) => `${hex(byte)},`).join(" ");
  return [`constexpr std::uint8_t k_${name}[] = {`, ...wrap(code), "};"];
});
const head = ["// Made by assemble.mjs from guests.S; see there.", "// clang-format off"];
writeFileSync(join(here, "guests.inc"), `${[...head, ...rows].join("\n")}\n`);
