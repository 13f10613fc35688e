// The VM process is killed amid heavy writes of its guest: everything that the guest was told of is
// there, in a raw image and in a qcow2 one, which is whole and at the next open without leaks.
// KILL_ROUNDS says how often. The guest is booted once, and goes on from its saved state each time.
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parse, VmDefinition } from "../../api-schema/index.js";
import { eventually } from "../daemon/daemon.js";
import { debianBusybox, debianKernel } from "../guest/debian.js";
import { buildInitrd, SHELL_PROMPT } from "../guest/initrd.js";
import { projectRoot } from "../guest/paths.js";
import { virtioModules } from "../guest/virtio.js";
import { VmProcess } from "../guest/vm-process.js";

const ROUNDS = Number(process.env.KILL_ROUNDS ?? 5);
/** As in disk-writer.c. */
const [PROCESSES, BLOCKS, STEP, BLOCK] = [8, 1024, 389, 4096];
let folder: string;
let writer: Buffer;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "xhyved-kill-"));
  const program = join(folder, "writer");
  const source = join(projectRoot, "test", "guest", "disk-writer.c");
  execFileSync("gcc", ["-O1", "-static", "-o", program, source]);
  writer = readFileSync(program);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** How far each process had been acknowledged, as far as the console says. */
function acknowledged(output: string): number[] {
  const last = Array<number>(PROCESSES).fill(0);
  for (const [, process, n] of output.matchAll(/^ack (\d+) (\d+)$/gm))
    last[Number(process)] = Math.max(last[Number(process)] ?? 0, Number(n));
  return last;
}

/** Every block holds its last acknowledged write, or a later one to the same block. */
function check(bytes: Buffer, last: readonly number[]): void {
  for (const [process, n] of last.entries()) {
    for (let write = Math.max(1, n - BLOCKS + 1); write <= n; write++) {
      const at = (process * BLOCKS + ((write * STEP) % BLOCKS)) * BLOCK;
      const words = new Uint32Array(
        bytes.buffer.slice(bytes.byteOffset + at, bytes.byteOffset + at + BLOCK),
      );
      const held = words[0] ?? 0;
      if (held < write || held % BLOCKS !== write % BLOCKS || words.some((word) => word !== held))
        throw new Error(`process ${process}, write ${write}: block ${at / BLOCK} holds ${held}`);
    }
  }
}

async function define(image: string, format: "raw" | "qcow2"): Promise<VmDefinition> {
  const kernel = await debianKernel();
  const { files, script } = virtioModules(kernel);
  const initrd = join(folder, "initrd.gz");
  const all = { ...files, writer };
  const busybox = await debianBusybox();
  writeFileSync(initrd, buildInitrd({ busybox, files: all, script: script({}) }));
  return parse(VmDefinition, {
    name: "killed",
    uuid: "11111111-2222-4333-8444-777777777777",
    memory: 128 * 2 ** 20,
    boot: { kind: "linux", kernel, initrd, cmdline: "console=ttyS0 quiet" },
    devices: [
      { slot: "0:0", type: "hostbridge" },
      { slot: "3:0", type: "virtio-blk", path: image, format },
      { slot: "31:0", type: "lpc" },
    ],
  });
}

const create = (format: string, image: string): void =>
  void execFileSync("qemu-img", ["create", "-q", "-f", format, image, "64M"]);

/** Booted up to its shell once, and saved. */
async function savedGuest(definition: VmDefinition, saved: string): Promise<void> {
  const console = `${saved}.log`;
  const vm = await VmProcess.launch({ folder: `${saved}-vm`, definition, console });
  try {
    await vm.connection.call("start", {});
    await vm.waitFor(SHELL_PROMPT, 300);
    await vm.connection.call("pause", {});
    await vm.connection.call("saveState", { directory: saved });
  } finally {
    await vm.end();
  }
}

const output = (vm: VmProcess): string => vm.output().replaceAll("\r", "");

/** Its output, after it has written for a while and been killed. */
async function killedAmidWrites(definition: VmDefinition, restore: string): Promise<string> {
  const run = mkdtempSync(join(folder, "run-"));
  const console = join(run, "console.log");
  const vm = await VmProcess.launch({ folder: run, definition, console, restore });
  await vm.connection.call("start", {});
  await vm.type("/writer\n");
  await eventually(() => Math.min(...acknowledged(output(vm))) > 0, 300);
  await new Promise((resolve) => setTimeout(resolve, Math.random() * 700));
  await vm.kill();
  const said = output(vm);
  rmSync(run, { recursive: true });
  return said;
}

describe.each(["raw", "qcow2"] as const)("%s", (format) => {
  it(`keeps what was acknowledged, ${ROUNDS} times`, async () => {
    const image = join(folder, `disk.${format}`);
    const raw = join(folder, "contents.raw");
    const saved = join(folder, `saved-${format}`);
    create(format, image);
    const definition = await define(image, format);
    await savedGuest(definition, saved);
    for (let round = 0; round < ROUNDS; round++) {
      create(format, image);
      const last = acknowledged(await killedAmidWrites(definition, saved));
      if (format === "qcow2") expect([0, 3]).toContain(checked(image));
      execFileSync("qemu-img", ["convert", "-f", format, "-O", "raw", image, raw]);
      check(readFileSync(raw), last);
    }
    if (format === "raw") return;
    const vm = await VmProcess.launch({
      ...{ folder: join(folder, "last"), definition, restore: saved },
      console: join(folder, "last.log"),
    });
    await vm.end();
    expect(checked(image), "leaks are reclaimed at the next open").toBe(0);
  });
});

/** 0: whole; 3: clusters that nothing refers to. */
const checked = (image: string): number | null =>
  spawnSync("qemu-img", ["check", "-f", "qcow2", image], { stdio: "ignore" }).status;
