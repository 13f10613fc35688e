// The conformance guests on our CPU against the logs that the comparison with QEMU accepted
// (test/guests/run.mjs --accept), by the interpreter and by the translator; the comparison itself is test/system/guests.test.ts.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { beforeAll, expect, test } from "vitest";
import { build, differences, expectedLog, GUESTS, runOurs } from "../guests/harness.js";

const paths = { root: fileURLToPath(new URL("../..", import.meta.url)) };

beforeAll(() => build(paths));

for (const engine of ["interpreter", "eager"] as const) {
  for (const guest of GUESTS) {
    test(`${guest.name} prints what was accepted (${engine})`, () => {
      const ours = runOurs(paths, guest, { engine });
      if ("failure" in ours) throw new Error(ours.failure);
      const expected = readFileSync(expectedLog(paths, guest), "utf8");
      expect(differences(paths, guest.name, ours.log, expected)).toEqual([]);
    });
  }
}
