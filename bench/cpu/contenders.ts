// The three places where a program runs: a VM of ours, one of QEMU's, and the host itself. Each is a
// process that answers lines (bench/cpu/guest/main.c).
import { spawn } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { parse, VmDefinition } from "../../api-schema/index.js";
import { VmProcess } from "../../test/guest/vm-process.js";
import { type Contender, overConsole, overPipes, waitFor } from "../contender.js";
import { cpuSeconds } from "../processes.js";
import type { Images } from "./images.js";

export const MEMORY = 512 * 2 ** 20;

export interface GuestOptions {
  readonly images: Images;
  readonly cpus: number;
  /** More of the kernel's command line. */
  readonly cmdline?: string;
}

const commandLine = ({ cmdline = "" }: GuestOptions): string => `console=ttyS0 ${cmdline}`.trim();

export interface Run {
  /** Seconds of CPU, and by the clock. */
  readonly cpu: number;
  readonly wall: number;
  readonly checksum: string;
}

/** One program from the line that starts it to its answer. */
export async function runProgram(contender: Contender, name: string): Promise<Run> {
  const from = contender.output().length;
  const before = cpuSeconds(contender.pid);
  const began = process.hrtime.bigint();
  contender.type(`${name}\n`);
  const answer = new RegExp(`bench: done ${name} ([0-9a-f]+) (\\d+)|bench: no program`);
  const since: Contender = { ...contender, output: () => contender.output().slice(from) };
  const [, checksum, own] = await waitFor(since, answer);
  const wall = Number(process.hrtime.bigint() - began) / 1e9;
  if (checksum === undefined) throw new Error(`${contender.name} has no program ${name}`);
  // Native children have ended: only the program itself knows what they cost.
  const cpu = contender.name === "native" ? Number(own) / 1e6 : cpuSeconds(contender.pid) - before;
  return { cpu, wall, checksum };
}

export const native = ({ program }: Images): Contender =>
  overPipes("native", spawn(program, [], { stdio: ["pipe", "pipe", "inherit"] }));

export function qemu(
  options: GuestOptions,
  more: readonly string[] = ["-accel", "tcg,thread=multi"],
): Contender {
  const { kernel, initrd } = options.images;
  const args = [
    ...["-cpu", "max", "-m", `${MEMORY / 2 ** 20}`],
    ...["-smp", `${options.cpus}`, "-nodefaults", "-no-user-config", "-no-reboot"],
    ...["-display", "none", "-serial", "stdio"],
    ...["-kernel", kernel, "-initrd", initrd, "-append", commandLine(options), ...more],
  ];
  return overPipes(
    "qemu",
    spawn("qemu-system-x86_64", args, { stdio: ["pipe", "pipe", "inherit"] }),
  );
}

const define = (options: GuestOptions): VmDefinition =>
  parse(VmDefinition, {
    name: "bench",
    uuid: "11111111-2222-4333-8444-777777777777",
    cpus: options.cpus,
    memory: MEMORY,
    accelerator: "soft",
    boot: {
      kind: "linux",
      kernel: options.images.kernel,
      initrd: options.images.initrd,
      cmdline: commandLine(options),
    },
  });

export interface OurContender extends Contender {
  readonly vm: VmProcess;
}

/** `folder` is made, and the VM process's own. */
export async function ours(options: GuestOptions, folder: string): Promise<OurContender> {
  mkdirSync(folder, { recursive: true });
  const console = join(folder, "console");
  const vm = await VmProcess.launch({ folder, definition: define(options), console });
  await vm.connection.call("start", {});
  return { ...overConsole(vm, console), vm };
}
