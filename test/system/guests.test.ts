// The conformance guests on our CPU against QEMU's translator and, where it works, KVM: the logs
// are equal line by line but for test/guests/tolerated.json.
import { fileURLToPath } from "node:url";
import { beforeAll, expect, test } from "vitest";
import {
  build,
  differences,
  GUESTS,
  type Guest,
  missing,
  runOurs,
  runQemu,
  type Witness,
} from "../guests/harness.js";

const paths = { root: fileURLToPath(new URL("../..", import.meta.url)) };

function compare(guest: Guest, witness: Witness): void {
  const ours = runOurs(paths, guest);
  if ("failure" in ours) throw new Error(`${guest.name}: ours: ${ours.failure}`);
  const theirs = runQemu(paths, guest, witness);
  if ("failure" in theirs) throw new Error(`${guest.name}: ${witness}: ${theirs.failure}`);
  expect(differences(paths, guest.name, ours.log, theirs.log, witness), guest.name).toEqual([]);
}

beforeAll(() => build(paths));

for (const witness of ["tcg", "kvm"] as const) {
  test(`conformance guests against ${witness}`, ({ skip }) => {
    const lacking = missing(paths, witness);
    if (lacking !== undefined) {
      console.log(`conformance guests against ${witness}: skipped: ${lacking}`);
      skip(lacking);
    }
    for (const guest of GUESTS) compare(guest, witness);
  });
}
