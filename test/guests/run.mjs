// Runs conformance guests by hand and shows where the logs differ:
//
//   node test/guests/run.mjs [--log] [--accept] [--kvm] [GUEST…]
//
// --log prints our logs, --kvm compares with QEMU under KVM instead of its translator, --accept
// writes test/guests/expected/GUEST.log where nothing but tolerated differences is left.
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import * as harness from "../../dist/test/guests/harness.js";

const paths = { root: fileURLToPath(new URL("../..", import.meta.url)) };
const flags = process.argv.slice(2).filter((text) => text.startsWith("--"));
const names = process.argv.slice(2).filter((text) => !text.startsWith("--"));
const witness = flags.includes("--kvm") ? "kvm" : "tcg";

function accept(guest, log) {
  const file = harness.expectedLog(paths, guest);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, log);
  console.log(`  written: ${file}`);
}

/** How many differences there are. */
function check(guest) {
  const ours = harness.runOurs(paths, guest);
  const theirs = harness.runQemu(paths, guest, witness);
  for (const [who, run] of Object.entries({ ours, theirs }))
    if ("failure" in run) console.log(`${guest.name}: ${who}: ${run.failure}`);
  if (flags.includes("--log") && "log" in ours) process.stdout.write(ours.log);
  if ("failure" in ours || "failure" in theirs) return 1;
  const found = harness.differences(paths, guest.name, ours.log, theirs.log, witness);
  console.log(`${guest.name}: ${ours.log.split("\n").length - 1} lines, ${found.length} differ`);
  for (const difference of found.slice(0, 40)) console.log(difference);
  if (flags.includes("--accept") && found.length === 0) accept(guest, ours.log);
  return found.length;
}

harness.build(paths);
const chosen = harness.GUESTS.filter(({ name }) => names.length === 0 || names.includes(name));
const total = chosen.map(check).reduce((sum, n) => sum + n, 0);
process.exit(total === 0 ? 0 : 1);
