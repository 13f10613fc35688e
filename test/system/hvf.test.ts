// A stock Debian kernel on a simulated Mac: the accelerator for Hypervisor.framework, unchanged,
// over a framework that the software CPU plays (native/sim, docs/hvf.md).
import { spawnSync } from "node:child_process";
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, it } from "vitest";
import { parse, VmDefinition } from "../../api-schema/index.js";
import { temporaryFolder } from "../daemon/daemon.js";
import { dmesgProblems } from "../guest/dmesg.js";
import { SHELL_PROMPT } from "../guest/initrd.js";
import { projectRoot } from "../guest/paths.js";
import { VmProcess } from "../guest/vm-process.js";
import { build, differences, expectedLog, GUESTS, runOurs } from "../guests/harness.js";
import { type Images, linuxImages } from "./linux.js";

const MIB = 2 ** 20;
const BUILD_MS = 1_200_000;
const BOOT_S = 500;
const COMMAND_S = 240;

const paths = { root: projectRoot };
const addons = join(projectRoot, "build", "sim");

let folder = "";
let images: Images;
beforeAll(async () => {
  const built = spawnSync("make", ["-s", "-C", join(projectRoot, "native", "sim")], {
    encoding: "utf8",
    timeout: BUILD_MS,
  });
  expect(built.status, built.stderr).toBe(0);
  process.env.XHYVED_NATIVE = addons;
  folder = temporaryFolder();
  images = await linuxImages(folder);
}, BUILD_MS);
afterAll(() => {
  delete process.env.XHYVED_NATIVE;
  rmSync(folder, { recursive: true, force: true });
});

const define = (cpus: number): VmDefinition =>
  parse(VmDefinition, {
    name: "mac",
    uuid: "11111111-2222-4333-8444-777777777777",
    accelerator: "hvf",
    cpus,
    memory: 256 * MIB,
    boot: { kind: "linux", ...images, cmdline: "console=ttyS0" },
    devices: [
      { slot: "0:0", type: "hostbridge" },
      { slot: "2:0", type: "uart" },
      { slot: "31:0", type: "lpc" },
    ],
  });

/** What the console said since `seen`, up to the shell's next prompt. */
async function prompt(vm: VmProcess, seen: number, seconds: number): Promise<string> {
  const deadline = Date.now() + seconds * 1000;
  for (;;) {
    const fresh = vm.output().slice(seen);
    const at = fresh.indexOf(SHELL_PROMPT);
    if (at >= 0) return fresh.slice(0, at + SHELL_PROMPT.length);
    if (Date.now() > deadline) throw new Error(`no prompt: ${fresh.slice(-600)}`);
    await sleep(20);
  }
}

async function run(vm: VmProcess, command: string): Promise<string> {
  const seen = vm.output().length;
  await vm.type(`${command}\n`);
  return (await prompt(vm, seen, COMMAND_S)).replaceAll("\r", "");
}

it.for([1, 2])("Debian's cloud kernel with %i vCPUs", async (cpus) => {
  const at = join(folder, `mac-${cpus}`);
  const vm = await VmProcess.launch({ folder: at, definition: define(cpus), console: `${at}.log` });
  try {
    await vm.connection.call("start", {});
    const log = await prompt(vm, 0, BOOT_S);
    expect(dmesgProblems(log)).toEqual([]);
    expect((await vm.connection.call("state", {})).accelerator).toMatchObject({
      name: "hvf",
    });
    expect(await run(vm, "nproc")).toMatch(new RegExp(`^${cpus}$`, "m"));
    expect(
      await run(vm, "cat /sys/devices/system/clocksource/clocksource0/current_clocksource"),
    ).toMatch(/^tsc$/m);
    // Time goes on at the clock's pace: two seconds of sleep are no less, and no minute.
    expect(await run(vm, "a=$(date +%s); sleep 2; b=$(date +%s); echo took $((b - a))")).toMatch(
      /took ([2-9]|[1-5][0-9])$/m,
    );
  } finally {
    await vm.end();
  }
  // Nothing that VMX would not do for the guest, and no entry that it refused.
  expect(readFileSync(join(at, "process.log"), "utf8")).not.toMatch(/hvf:/);
});

it("the conformance guests see what they see everywhere", () => {
  build(paths);
  for (const guest of GUESTS) {
    const ours = runOurs(paths, guest, { accelerator: "hvf", addons });
    if ("failure" in ours) throw new Error(`${guest.name}: ${ours.failure}`);
    const expected = readFileSync(expectedLog(paths, guest), "utf8");
    expect(differences(paths, guest.name, ours.log, expected), guest.name).toEqual([]);
  }
});
