// Hosts that have /dev/kvm and do not let this user have it, or have none: a process in a mount
// namespace of its own, as a user without rights.
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { projectRoot } from "../test/guest/paths.js";
import type { AcceleratorInfo } from "./types.js";

const INDEX = join(projectRoot, "dist", "native", "index.js");
const NOBODY = "65534";
/** vitest may not be root elsewhere; there, namespaces and other users are not ours to take. */
const root = process.getuid?.() === 0 && process.platform === "linux" && process.arch === "x64";

const SCRIPT = `
  const { acceleratorInfo, automaticAccelerator, createMachine } = await import(process.argv[1]);
  let refused = "";
  try { createMachine({ cpus: 1, memory: 2 ** 24, accelerator: "kvm" }); }
  catch (error) { refused = error.message; }
  console.log(JSON.stringify({ info: acceleratorInfo(), auto: automaticAccelerator(), refused }));`;

interface Seen {
  readonly info: readonly AcceleratorInfo[];
  readonly auto: AcceleratorInfo;
  readonly refused: string;
}

/** In a /dev of its own, after `prepare`. */
function seenAfter(prepare: string, user: readonly string[] = []): Seen {
  const node = [process.execPath, "--input-type=module", "-e", SCRIPT, INDEX];
  const all = ["unshare", "-m", "sh", "-ec", `${prepare}; exec "$@"`, "sh", ...user, ...node];
  const [program = "", ...args] = all;
  return JSON.parse(execFileSync(program, args, { encoding: "utf8" })) as Seen;
}

const EMPTY_DEV = "mount -t tmpfs none /dev";
const AS_NOBODY = ["setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"];

describe.runIf(root)("kvm that is not to be had", () => {
  const reasonOf = ({ info }: Seen): string =>
    info.find(({ name }) => name === "kvm")?.reason ?? "";

  test("no device: auto takes soft and says why, kvm is refused with the same words", () => {
    const seen = seenAfter(EMPTY_DEV);
    expect(seen.auto.name).toBe("soft");
    expect(seen.auto.reason).toContain("/dev/kvm");
    expect(reasonOf(seen)).toContain("/dev/kvm");
    expect(seen.refused).toContain(reasonOf(seen));
  });

  const device = (mode: string, group: string): string =>
    `${EMPTY_DEV}; : > /dev/kvm; chmod ${mode} /dev/kvm; chgrp ${group} /dev/kvm`;

  test("a device of a group: its name, or the ACL", () => {
    const seen = seenAfter(device("660", "daemon"), AS_NOBODY);
    expect(seen.auto.name).toBe("soft");
    for (const text of [seen.refused, seen.auto.reason])
      expect(text).toMatch(
        /user 65534 may not open \/dev\/kvm: add the user to group daemon, or .*setfacl -m u:65534:rw \/dev\/kvm/,
      );
  });

  test("a device of root's alone: the ACL", () => {
    const { refused } = seenAfter(device("600", "root"), AS_NOBODY);
    expect(refused).toMatch(/may not open \/dev\/kvm: give it an ACL \(setfacl -m u:65534:rw/);
    expect(refused).not.toContain("group");
  });

  test("a file that is not KVM is refused by what it answers", () => {
    const seen = seenAfter(device("666", "root"));
    expect(seen.auto.name).toBe("soft");
    expect(seen.refused).toMatch(/kvm: /);
  });
});
