// The three places where a program runs: a VM of ours, one of QEMU's, and the host itself. Each is a
// process that answers lines (bench/cpu/guest/main.c).
import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { readConsoleLog } from "../../api-schema/console-log.js";
import { parse, VmDefinition } from "../../api-schema/index.js";
import { VmProcess } from "../../test/guest/vm-process.js";
import { cpuSeconds } from "../processes.js";
import type { Images } from "./images.js";

export const MEMORY = 512 * 2 ** 20;
export const READY = "bench: ready";
const ANSWER_S = 300;
const POLL_MS = 5;

export interface GuestOptions {
  readonly images: Images;
  readonly cpus: number;
  /** More of the kernel's command line. */
  readonly cmdline?: string;
}

const commandLine = ({ cmdline = "" }: GuestOptions): string => `console=ttyS0 ${cmdline}`.trim();

export interface Contender {
  readonly name: string;
  readonly pid: number;
  /** All output so far. */
  output(): string;
  /** It has ended by itself. */
  ended(): boolean;
  type(text: string): void;
  end(): Promise<void>;
}

/** Polls: what happens within the process that is measured is the same either way. */
export async function waitFor(contender: Contender, pattern: RegExp): Promise<RegExpExecArray> {
  const deadline = Date.now() + ANSWER_S * 1000;
  for (;;) {
    const found = pattern.exec(contender.output());
    if (found !== null) return found;
    if (contender.ended() || Date.now() > deadline)
      throw new Error(`${contender.name}: no ${pattern} in ${contender.output().slice(-400)}`);
    await sleep(POLL_MS);
  }
}

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

function overPipes(name: string, child: ChildProcess): Contender {
  let seen = "";
  child.stdout?.on("data", (chunk) => {
    seen += String(chunk);
  });
  const gone = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  return {
    name,
    pid: child.pid ?? 0,
    output: () => seen,
    ended: () => child.exitCode !== null,
    type: (text) => void child.stdin?.write(text),
    async end() {
      child.kill("SIGKILL");
      await gone;
    },
  };
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
  let seen = "";
  let offset = 0;
  return {
    name: "ours",
    vm,
    pid: vm.pid,
    output() {
      const read = readConsoleLog(console, offset, 2 ** 20);
      seen += Buffer.from(read.bytes).toString("latin1");
      offset = read.offset + read.bytes.length;
      return seen;
    },
    ended: () => false,
    type: (text) => void vm.type(text).catch(() => undefined),
    end: () => vm.end(),
  };
}
