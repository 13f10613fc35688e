// `npm run bench -- cpu`: the soft CPU against QEMU's translator and against the host's own CPU.
// What is measured, and the bars, are in programs.ts.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Bar, Bench, BenchOptions, BenchReport } from "../bench.js";
import type { Contender } from "../contender.js";
import { type Boots, measureBoots } from "./boot.js";
import { measurePrograms, measureTogether, type Runs } from "./compute.js";
import { native, ours, qemu } from "./contenders.js";
import { buildImages, type Images } from "./images.js";
import { BOOTS, GROUPS, SCALING } from "./programs.js";
import { reportBoots, reportGroup, reportScaling } from "./report.js";

/** The guests' own lines are all that is wanted on the console. */
const QUIET = "quiet loglevel=0";

const chosen = (name: string, only: readonly string[]): boolean =>
  only.length === 0 || only.includes(name);

/** All three, for as long as `work` takes. */
async function withContenders<T>(
  images: Images,
  cpus: number,
  work: (contenders: readonly Contender[]) => Promise<T>,
): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), "bench-"));
  const options = { images, cpus, cmdline: QUIET };
  const all: Contender[] = [];
  try {
    all.push(await ours(options, join(folder, "vm")));
    all.push(qemu(options), native(images));
    return await work(all);
  } finally {
    for (const contender of all) await contender.end();
    rmSync(folder, { recursive: true, force: true });
  }
}

async function boots(images: Images, options: BenchOptions): Promise<Map<number, Boots>> {
  const all = new Map<number, Boots>();
  for (const { cpus } of BOOTS)
    if (chosen(`boot-${cpus}`, options.only))
      all.set(cpus, await measureBoots({ images, cpus }, options));
  return all;
}

async function programs(images: Images, options: BenchOptions): Promise<Map<string, Runs>> {
  const names = GROUPS.flatMap((group) =>
    group.programs.filter((name) => chosen(name, options.only) || chosen(group.name, options.only)),
  );
  if (names.length === 0) return new Map();
  return withContenders(images, 1, (all) => measurePrograms(all, names, options));
}

async function scaling(images: Images, options: BenchOptions): Promise<Map<string, Runs>> {
  if (!chosen("scaling", options.only)) return new Map();
  const names = [SCALING.one, SCALING.two];
  const count = options.count * SCALING.often;
  return withContenders(images, 2, (all) => measureTogether(all, names, { ...options, count }));
}

async function run(options: BenchOptions): Promise<BenchReport> {
  options.progress("building the guest's program");
  const images = await buildImages();
  const booted = await boots(images, options);
  const measured = await programs(images, options);
  const scaled = await scaling(images, options);
  const parts = [
    reportBoots(booted),
    ...GROUPS.map((group) => reportGroup(group, measured)),
    reportScaling(scaled),
  ];
  const bars: Bar[] = parts.flatMap((part) => part.bars);
  return {
    sections: parts.flatMap((part) => part.sections),
    bars,
    data: {
      boots: Object.fromEntries(booted),
      programs: Object.fromEntries(measured),
      scaling: Object.fromEntries(scaled),
    },
  };
}

export const cpu: Bench = {
  name: "cpu",
  summary: "the soft CPU against QEMU's TCG and the host: boots, programs, memory",
  run,
};
