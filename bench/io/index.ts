// `npm run bench -- io`: disks, serial output and the network against QEMU's, from within equal guests.
// Needs root, for a network namespace. Speed is by the host's clock, from the line that starts a task to
// its answer, for no guest's clock is a witness of its own machine; beside it are the CPU seconds of the two processes on the host, which other load disturbs less.
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { Namespace } from "../../test/guest/network.js";
import { projectRoot } from "../../test/guest/paths.js";
import type { Bar, Bench, BenchOptions, BenchReport, Section } from "../bench.js";
import { READY, waitFor } from "../contender.js";
import { cpuSeconds } from "../processes.js";
import { alternate, median, ratios, summarize } from "../statistics.js";
import { figure, type Row } from "../table.js";
import { type IoContender, ours, type Place, qemu, serialFile } from "./contenders.js";
import { buildImages, FRESH_MIB, FULL_MIB, makeDisks } from "./images.js";
import { FRESH_STEP_MIB, PER_UNIT, TASKS, type Task } from "./tasks.js";

const NAMES = ["ours", "qemu"] as const;
type Name = (typeof NAMES)[number];

interface Measured {
  /** In the task's unit, and seconds of CPU. */
  readonly speed: number;
  readonly cpu: number;
  /** By the host's clock and by the guest's, which should agree. */
  readonly seconds: number;
  readonly guestSeconds: number;
}
type Results = Readonly<Record<Name, readonly Measured[]>>;

async function perform(contender: IoContender, task: Task, round: number): Promise<Measured> {
  const from = contender.output().length;
  const fresh = FULL_MIB + ((round * FRESH_STEP_MIB) % FRESH_MIB);
  const before = cpuSeconds(contender.pid);
  const written = task.part === "serial" ? statSync(serialFile(contender.place)).size : 0;
  const began = process.hrtime.bigint();
  contender.type(`${task.line({ host: contender.place.host, fresh })}\n`);
  const since = { ...contender, output: () => contender.output().slice(from) };
  const [text, amount, guestTime] = await waitFor(
    since,
    /bench: done (\d+) (\d+)\r?\n|bench: failed: .*\n|Kernel panic.*\n/,
  );
  if (amount === undefined) throw new Error(`${contender.name}, ${task.name}: ${text}`);
  const seconds = Number(process.hrtime.bigint() - began) / 1e9;
  const cpu = cpuSeconds(contender.pid) - before;
  if (task.part === "serial") await arrived(contender, written + Number(amount));
  const speed = Number(amount) / PER_UNIT[task.unit] / seconds;
  return { speed, cpu, seconds, guestSeconds: Number(guestTime) / 1e9 };
}

/** Everything that was sent is in the file. */
async function arrived({ name, place }: IoContender, size: number): Promise<void> {
  for (let left = 200; left > 0 && statSync(serialFile(place)).size < size; left--)
    await new Promise((resolve) => setTimeout(resolve, 20));
  const is = statSync(serialFile(place)).size;
  if (is !== size) throw new Error(`${name}: ${is} bytes of serial output, not ${size}`);
}

function row(task: Task, { ours: own, qemu: theirs }: Results): { row: Row; ratio: number } {
  const speeds = [own, theirs].map((runs) => runs.map(({ speed }) => speed));
  const cpus = [own, theirs].map((runs) => median(runs.map(({ cpu }) => cpu)));
  const [mine = [], peers = []] = speeds;
  const ratio = median(mine) / median(peers);
  const spread = summarize(ratios(mine, peers));
  return {
    ratio,
    row: [
      `${task.name}, ${task.unit}`,
      ...speeds.map((values) => figure(median(values))),
      figure(ratio),
      `${figure(spread.least)} to ${figure(spread.most)}`,
      ...cpus.map(figure),
      figure((cpus[1] ?? Number.NaN) / (cpus[0] ?? Number.NaN)),
    ],
  };
}

const HEADER: Row = [
  ...["what", "ours", "QEMU", "x QEMU's speed", "spread"],
  ...["ours, CPU s", "QEMU, CPU s", "x QEMU's CPU economy"],
];

function report(results: ReadonlyMap<Task, Results>): BenchReport {
  const bars: Bar[] = [];
  const sections = (["disk", "serial", "network"] as const).flatMap((part): Section[] => {
    const rows = [...results].filter(([task]) => task.part === part);
    if (rows.length === 0) return [];
    const made = rows.map(([task, result]) => ({ task, ...row(task, result) }));
    for (const { task, ratio } of made)
      bars.push({ what: `${task.name}: x QEMU's speed`, value: ratio, least: 1 });
    return [{ title: `I/O: ${part}`, header: HEADER, rows: made.map((one) => one.row) }];
  });
  const data = Object.fromEntries([...results].map(([task, result]) => [task.name, result]));
  return { sections, bars, data };
}

/** The namespace in which both have a tap, and something that answers. */
async function makeNetwork(program: string): Promise<Namespace> {
  const namespace = new Namespace("xhyved-bench");
  NAMES.forEach((name, index) => {
    namespace.run(
      `ip tuntap add tap-${name} mode tap vnet_hdr; ip addr add 10.9.${index}.1/24 dev tap-${name}; ip link set tap-${name} up`,
    );
  });
  const server = namespace.start(program, "--serve");
  await new Promise((resolve) => server.stdout?.once("data", resolve));
  return namespace;
}

async function measure(
  contenders: readonly IoContender[],
  tasks: readonly Task[],
  { count, progress }: BenchOptions,
): Promise<Map<Task, Results>> {
  for (const contender of contenders) await waitFor(contender, new RegExp(READY));
  const all = new Map<Task, Results>();
  for (const task of tasks) {
    progress(`  ${task.name}`);
    const runs: Record<Name, Measured[]> = { ours: [], qemu: [] };
    await alternate(count, contenders, async (contender, round) => {
      runs[contender.name as Name].push(await perform(contender, task, round));
    });
    all.set(task, runs);
  }
  return all;
}

async function run(options: BenchOptions): Promise<BenchReport> {
  const { only } = options;
  const tasks = TASKS.filter(
    ({ name, part }) => only.length === 0 || only.includes(name) || only.includes(part),
  );
  options.progress("building the guest and its disks");
  const images = await buildImages();
  // On a real file system: a page cache with nothing below is no disk.
  const folder = mkdtempSync(join(projectRoot, "build", "bench-io-"));
  const contenders: IoContender[] = [];
  const namespace = await makeNetwork(images.program);
  try {
    const place = (name: Name, index: number): Place => ({
      ...{ images, namespace, tap: `tap-${name}`, folder: join(folder, name) },
      ...{
        disks: makeDisks(join(folder, name)),
        host: `10.9.${index}.1`,
        guest: `10.9.${index}.2`,
      },
    });
    contenders.push(await ours(place("ours", 0)), qemu(place("qemu", 1)));
    return report(await measure(contenders, tasks, options));
  } finally {
    for (const contender of contenders) await contender.end();
    namespace.remove();
    rmSync(folder, { recursive: true, force: true });
  }
}

export const io: Bench = {
  name: "io",
  summary: "disks, serial output and the network against QEMU's (needs root)",
  run,
};
