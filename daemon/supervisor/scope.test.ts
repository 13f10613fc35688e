// Against a busctl that writes down how it was called: systemd itself runs on no machine that tests
// this.
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { moveToScope, scopeCall } from "./scope.js";

const VM = { pid: 4711, uuid: "01234567-89ab-cdef-0123-456789abcdef", name: "web 1" };

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "xhyved-scope-"));
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true });
});

function busctl(script: string): void {
  writeFileSync(join(folder, "busctl"), `#!/bin/sh\n${script}\n`);
  chmodSync(join(folder, "busctl"), 0o755);
  vi.stubEnv("PATH", `${folder}:${process.env.PATH}`);
}

it("a process is given a scope with all that busctl has to know", async () => {
  busctl(`printf '%s\\n' "$@" >'${folder}/said'`);
  expect(await moveToScope(VM)).toBeUndefined();
  const said = readFileSync(join(folder, "said"), "utf8").trimEnd().split("\n");
  expect(said.filter((word) => word !== "--user")).toEqual([
    ...["call", "org.freedesktop.systemd1", "/org/freedesktop/systemd1"],
    ...["org.freedesktop.systemd1.Manager", "StartTransientUnit", "ssa(sv)a(sa(sv))"],
    ...["xhyved-01234567-89ab-cdef-0123-456789abcdef-4711.scope", "fail", "4"],
    ...["Description", "s", "Virtual machine web 1"],
    ...["PIDs", "au", "1", "4711"],
    ...["Before", "as", "1", "xhyved-guests.service"],
    ...["CollectMode", "s", "inactive-or-failed"],
    "0",
  ]);
});

it("a user's is the user's own manager's", () => {
  expect(scopeCall(VM, true).slice(0, 2)).toEqual(["--user", "call"]);
  expect(scopeCall(VM, false)[0]).toBe("call");
});

it("what keeps it from one is said, and no more", async () => {
  busctl("echo 'Access denied' >&2; exit 1");
  expect(await moveToScope(VM)).toBe("Access denied");
});
