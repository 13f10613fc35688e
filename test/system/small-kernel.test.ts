// A Linux kernel small enough for every accelerator (test/guest/small-kernel): it boots to user
// space, finds its CPUs, keeps time, and talks both ways on COM1. On /dev/kvm with hardware behind
// it that is a moment; on one that emulates kernel code, a minute or more, and no further than the
// first system call where that KVM takes none from ring 3 (docs/kvm.md).
import { accessSync, constants, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parse, VmDefinition } from "../../api-schema/index.js";
import { temporaryFolder } from "../daemon/daemon.js";
import { dmesgProblems } from "../guest/dmesg.js";
import { projectRoot } from "../guest/paths.js";
import { smallInitrd, smallKernel } from "../guest/small-kernel.js";
import { VmProcess } from "../guest/vm-process.js";
import { build, missing } from "../guests/harness.js";

const MIB = 2 ** 20;
/** Unpacking and building, where nothing is cached, on a busy machine. */
const BUILD_MS = 1_800_000;
const BOOT_S = 900;
const ANSWER_S = 120;
const TEST_MS = (BOOT_S + 2 * ANSWER_S) * 1000;

const MARKER = "xhyved: user space\n";
const PROMPT = "guest# ";
const FIRST_PROGRAM = "Run /init as init process";
const PANIC = "---[ end Kernel panic - not syncing";

let folder = "";
let images: { readonly kernel: string; readonly initrd: string };
let systemCall = 0;
beforeAll(async () => {
  folder = temporaryFolder();
  const initrd = await smallInitrd(folder);
  systemCall = initrd.systemCall;
  images = { kernel: await smallKernel(), initrd: join(folder, "initrd") };
  writeFileSync(images.initrd, initrd.archive);
}, BUILD_MS);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Shape {
  readonly accelerator: "soft" | "kvm";
  readonly cpus: number;
  readonly cpuModel?: "stable" | "host";
}

const define = (shape: Shape): VmDefinition =>
  parse(VmDefinition, {
    name: "small",
    uuid: "11111111-2222-4333-8444-555555555555",
    ...shape,
    memory: 64 * MIB,
    // The kernel's text is not made read-only: a thousand pages, one at a time.
    boot: { kind: "linux", ...images, cmdline: "console=ttyS0 rodata=off" },
    devices: [
      { slot: "0:0", type: "hostbridge" },
      { slot: "31:0", type: "lpc" },
    ],
  });

const linesOf = (vm: VmProcess): string => vm.output().replaceAll("\r", "");

/** What the guest said up to its prompt, or up to its panic. */
async function boot(vm: VmProcess): Promise<string> {
  const deadline = Date.now() + BOOT_S * 1000;
  await vm.connection.call("start", {});
  for (;;) {
    const log = linesOf(vm);
    if (log.includes(PROMPT) || log.includes(PANIC)) return log;
    if (Date.now() > deadline) throw new Error(`neither prompt nor panic: ${log.slice(-600)}`);
    await sleep(50);
  }
}

/** Whose machine the kernel takes it for, and what it reads the time from beside the counter. */
const PLATFORM = {
  stable: [/Booting paravirtualized kernel on bare hardware/],
  host: [
    /Booting paravirtualized kernel on KVM/,
    /kvm-clock: Using msrs 4b564d01 and 4b564d00/,
    /Switched to clocksource kvm-clock$/m,
  ],
} as const;

/** The kernel's part: everything before it starts the one program. */
function kernelWorks(log: string, { cpus, cpuModel = "stable" }: Shape): void {
  expect(log).toContain(FIRST_PROGRAM);
  expect(dmesgProblems(log.slice(0, log.indexOf(FIRST_PROGRAM)))).toEqual([]);
  for (const line of PLATFORM[cpuModel]) expect(log).toMatch(line);
  expect(log).toMatch(new RegExp(`Brought up 1 node, ${cpus} CPU`));
  expect(log).toMatch(/ttyS0 at I\/O 0x3f8 \(irq = 4, .*\) is a 16550A/);
  expect(log).toMatch(/Switched to clocksource tsc$/m);
}

/** User space's: every CPU visited, a timer that fired, a line in and out. */
async function programWorks(vm: VmProcess, log: string, cpus: number): Promise<void> {
  const visits = Array.from({ length: cpus }, (_, cpu) => `on CPU ${cpu}\n`).join("");
  expect(log).toContain(`${MARKER}${visits}slept\n${PROMPT}`);
  expect(dmesgProblems(log)).toEqual([]);
  await vm.type("hello, guest\n");
  await vm.waitFor("HELLO, GUEST", ANSWER_S);
}

/** The program ran in ring 3 up to its first system call, which the host's KVM made #UD of. */
function programCannotCall(log: string): void {
  const at = systemCall.toString(16);
  expect(log).toMatch(new RegExp(`traps: init\\[1\\] trap invalid opcode ip:${at} `));
}

async function boots(shape: Shape, noSystemCalls = false): Promise<void> {
  const name = Object.values(shape).join(" ");
  const at = join(folder, name.replaceAll(" ", "-"));
  const definition = define(shape);
  const vm = await VmProcess.launch({ folder: at, definition, console: `${at}.log` });
  const began = Date.now();
  try {
    const log = await boot(vm);
    const took = ((Date.now() - began) / 1000).toFixed(1);
    console.log(`${name} CPU(s): user space after ${took} s`);
    expect((await vm.connection.call("state", {})).accelerator).toMatchObject({
      name: shape.accelerator,
    });
    kernelWorks(log, shape);
    if (noSystemCalls && log.includes(PANIC)) programCannotCall(log);
    else await programWorks(vm, log, shape.cpus);
  } finally {
    await vm.end();
  }
  expect(readFileSync(join(at, "process.log"), "utf8")).not.toMatch(/kvm:/);
}

function mayUseKvm(): boolean {
  try {
    accessSync("/dev/kvm", constants.R_OK | constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

/** Why the host's KVM is no whole CPU, by another VMM's witness; undefined where it is one. */
function hostLacks(): string | undefined {
  const paths = { root: projectRoot };
  build(paths);
  return missing(paths, "kvm");
}

describe("a small Linux kernel", () => {
  it.for([1, 2])("on soft with %i CPUs", { timeout: TEST_MS }, (cpus) =>
    boots({ accelerator: "soft", cpus }),
  );

  let lacking: { readonly why: string | undefined } | undefined;
  it.for<[string, Shape]>([
    ["1 CPUs", { accelerator: "kvm", cpus: 1 }],
    ["2 CPUs", { accelerator: "kvm", cpus: 2 }],
    ["2 CPUs like the host's", { accelerator: "kvm", cpus: 2, cpuModel: "host" }],
  ])("on kvm with %s", { timeout: TEST_MS }, async ([, shape], { skip }) => {
    if (!mayUseKvm()) skip("/dev/kvm is missing, or not this user's to open");
    lacking ??= { why: hostLacks() };
    if (lacking.why !== undefined) console.log(lacking.why);
    await boots(shape, lacking.why !== undefined);
  });
});
