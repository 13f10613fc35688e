// The fuzzers of `npm test`, each for a minute; that of the whole machine on the addon built with
// address and undefined-behaviour sanitizers: what reaches past the guest's memory, or any other mistake
// of the core, ends the program. XHYVED_FUZZ_SEED and XHYVED_FUZZ_SECONDS choose others.
import { execFile, execFileSync, spawnSync } from "node:child_process";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, it } from "vitest";
import { projectRoot } from "../guest/paths.js";

const run = promisify(execFile);
const SECONDS = process.env.XHYVED_FUZZ_SECONDS ?? "60";
const SEED = process.env.XHYVED_FUZZ_SEED ?? "7";

it.each(["daemon/fuzz.test.ts", "devices/virtio/fuzz.test.ts"])(
  "%s holds for a minute",
  (file) => {
    const { status, stdout, stderr } = spawnSync(
      "npx",
      ["vitest", "run", "--project", "unit", file],
      {
        cwd: projectRoot,
        env: { ...process.env, XHYVED_FUZZ_SECONDS: SECONDS, XHYVED_FUZZ_SEED: SEED },
        encoding: "utf8",
      },
    );
    expect(status, `${stdout}${stderr}`).toBe(0);
  },
  900_000,
);

it("no access and no DMA structure breaks a machine with sanitizers", {
  timeout: 1_800_000,
}, async () => {
  const makefile = join(projectRoot, "native", "test");
  await run("make", ["-s", "-j", String(availableParallelism()), "-C", makefile, "addon"], {
    maxBuffer: 2 ** 26,
  });
  const compiler = process.env.CXX?.split(" ").at(-1) ?? "g++";
  const library = execFileSync(compiler, ["-print-file-name=libasan.so"], { encoding: "utf8" });
  const env = {
    ...process.env,
    LD_PRELOAD: library.trim(),
    XHYVED_NATIVE: join(projectRoot, "build", "core", "addon"),
    // Node itself leaks at its end, and handles its own signals.
    ASAN_OPTIONS: "detect_leaks=0:handle_segv=1:allow_user_segv_handler=1",
    UBSAN_OPTIONS: "print_stacktrace=1:halt_on_error=1",
  };
  const program = join(projectRoot, "dist", "test", "fuzz", "main.js");
  const { stdout, stderr } = await run(process.execPath, [program, SECONDS, SEED], {
    env,
    maxBuffer: 2 ** 26,
  });
  expect(stderr).not.toMatch(/AddressSanitizer|runtime error/);
  const { rounds, halted } = JSON.parse(stdout.trim().split("\n").at(-1) ?? "{}");
  expect(rounds).toBeGreaterThan(0);
  expect(halted).toBeGreaterThan(rounds / 2);
});
