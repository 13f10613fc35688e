// The state is whole: a booting two-CPU guest is paused again and again at random moments, its
// state goes through the serialized form into a new process, and the guest notices nothing.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { parse, VmDefinition } from "../../api-schema/index.js";
import { debianBusybox, debianKernel } from "../guest/debian.js";
import { dmesgProblems } from "../guest/dmesg.js";
import { buildInitrd, SHELL_PROMPT } from "../guest/initrd.js";
import { VmProcess } from "../guest/vm-process.js";

const PAUSES = 20;
const MEMORY = 256 * 2 ** 20;
const SHORTEST_MS = 40;
const LONGEST_MS = 700;

let folder = "";
let definition: VmDefinition;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "xhyved-state-"));
  const initrd = join(folder, "initrd.gz");
  writeFileSync(initrd, buildInitrd({ busybox: await debianBusybox() }));
  definition = parse(VmDefinition, {
    name: "state",
    uuid: "11111111-2222-4333-8444-555555555555",
    cpus: 2,
    memory: MEMORY,
    boot: { kind: "linux", kernel: await debianKernel(), initrd, cmdline: "console=ttyS0" },
  });
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function* random(seed: number): Generator<number, never> {
  let state = seed >>> 0;
  for (;;) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    yield state / 2 ** 32;
  }
}

/** Saves the paused VM and starts it again from what was saved, in a new process. */
async function move(vm: VmProcess, hop: number, console: string): Promise<VmProcess> {
  const saved = join(folder, `saved-${hop}`);
  mkdirSync(folder, { recursive: true });
  await vm.connection.call("saveState", { directory: saved });
  await vm.end();
  const next = await VmProcess.launch({
    folder: join(folder, `vm-${hop}`),
    definition,
    console,
    restore: saved,
  });
  await next.connection.call("start", {});
  rmSync(saved, { recursive: true });
  return next;
}

it("goes on in a new process from 20 random moments of a boot with two CPUs", async () => {
  const seed = Number(process.env.XHYVED_SEED ?? Date.now() % 1e9);
  console.log(`seed ${seed} (XHYVED_SEED=${seed} repeats it)`);
  const moments = random(seed);
  const history = join(folder, "console.log");
  let vm = await VmProcess.launch({ folder: join(folder, "vm-0"), definition, console: history });
  try {
    await vm.connection.call("start", {});
    for (let hop = 1; hop <= PAUSES; hop++) {
      const ms = SHORTEST_MS + moments.next().value * (LONGEST_MS - SHORTEST_MS);
      await new Promise((resolve) => setTimeout(resolve, ms));
      await vm.connection.call("pause", {});
      vm = await move(vm, hop, history);
    }
    await vm.waitFor(SHELL_PROMPT, 400);
    await vm.type(
      "nproc; cat /sys/devices/system/clocksource/clocksource0/current_clocksource; echo all-$((40+2))\n",
    );
    await vm.waitFor("all-42", 240);
    expect(vm.output()).toMatch(/\r\n2\r\ntsc\r\n/);
    expect(dmesgProblems(vm.output())).toEqual([]);
  } finally {
    await vm.end();
  }
});
