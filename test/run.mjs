// Runs everything that `npm test` (or, with the argument "system" or "long", `npm run test:system`
// and `npm run test:long`) is made of, one step after the other, and ends with one line that counts
// them. A skipped test must be listed, with its reason, in test/allowed-skips.json: any other skip
// is a failure.
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const bin = (name) => join(root, "node_modules", ".bin", name);
const jobs = String(availableParallelism());
const report = (project) => join(root, "build", `vitest-${project}.json`);

/** System tests measure and use up CPUs: one file at a time. */
const vitest = (project, ...more) => ({
  name: `${project} tests`,
  command: bin("vitest"),
  args: [
    "run",
    ...["--project", project],
    ...more,
    ...["--reporter=default", "--reporter=json", `--outputFile.json=${report(project)}`],
  ],
  after: () => unlistedSkips(project),
});

// Tests start daemons and VM processes from dist/: as they are released, in bundles.
const build = [
  { name: "build", command: bin("tsc"), args: ["-p", "tsconfig.build.json"] },
  { name: "bundles", command: process.execPath, args: ["bundle.mjs"] },
];

const oracle = (cpu, count) => ({
  name: `oracle: random instructions on this CPU and on the ${cpu}`,
  command: process.execPath,
  args: ["test/oracle/run.mjs", "--cpu", cpu, "--count", String(count)],
});

const LOCKSTEP = "build/core/plain/softcpu/translator/lockstep_test";

const STEPS = {
  unit: [
    { name: "format and lint", command: bin("biome"), args: ["check", "."] },
    { name: "types", command: bin("tsc"), args: ["-p", "tsconfig.json"] },
    ...build,
    vitest("unit"),
    {
      name: "core tests (ASan, UBSan, TSan)",
      command: "make",
      args: ["-s", "-j", jobs, "-C", "native/test", "check"],
    },
    oracle("interpreter", 60_000),
    oracle("translator", 60_000),
  ],
  system: [...build, vitest("system", "--no-file-parallelism")],
  long: [
    oracle("interpreter", 10_000_000),
    oracle("translator", 10_000_000),
    {
      name: "build the lock step of interpreter and translator",
      command: "make",
      args: ["-s", "-j", jobs, "-C", "native/test", `../../${LOCKSTEP}`],
    },
    {
      name: "lock step: 100,000 random programs",
      command: join(root, LOCKSTEP),
      args: [],
      env: { LOCKSTEP_PROGRAMS: "100000" },
    },
    ...build,
    {
      name: "1,000 rounds of killing the daemon",
      command: bin("vitest"),
      args: ["run", "--project", "unit", "daemon/chaos.test.ts"],
      env: { XHYVED_CHAOS_ROUNDS: "1000" },
    },
  ],
};

function allowedSkips() {
  return JSON.parse(readFileSync(join(root, "test", "allowed-skips.json"), "utf8"));
}

/** Names of skipped tests that the list does not know; prints the reasons of those it does. */
function unlistedSkips(project) {
  const results = JSON.parse(readFileSync(report(project), "utf8")).testResults;
  const skipped = results
    .flatMap((file) => file.assertionResults)
    .filter(
      (test) => test.status === "pending" || test.status === "skipped" || test.status === "todo",
    )
    .map((test) => test.fullName.trim());
  const allowed = allowedSkips();
  for (const name of skipped)
    if (allowed[name] !== undefined) console.log(`  skipped: ${name}: ${allowed[name]}`);
  return skipped.filter((name) => allowed[name] === undefined);
}

function run({ name, command, args, env = {}, after }) {
  console.log(`\n== ${name}`);
  const began = Date.now();
  const { status, error } = spawnSync(command, args, {
    cwd: root,
    stdio: "inherit",
    env: { ...process.env, ...env },
  });
  if (error) console.error(`  cannot run ${command}: ${error.message}`);
  const unlisted = status === 0 ? (after?.() ?? []) : [];
  for (const test of unlisted) console.error(`  skipped without being listed: ${test}`);
  const passed = status === 0 && unlisted.length === 0;
  console.log(
    `== ${name}: ${passed ? "ok" : "FAILED"} in ${((Date.now() - began) / 1000).toFixed(1)} s`,
  );
  return passed;
}

const suite = process.argv[2] ?? "unit";
const steps = STEPS[suite];
if (steps === undefined) {
  console.error(`usage: node test/run.mjs [${Object.keys(STEPS).join("|")}]`);
  process.exit(2);
}
mkdirSync(join(root, "build"), { recursive: true });
const results = steps.map((step) => run(step));
const failed = results.filter((passed) => !passed).length;
console.log(`\n${results.length - failed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
