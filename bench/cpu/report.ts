// What was measured, as tables and bars.
import type { Bar, Section } from "../bench.js";
import { geometricMean, median, ratios, summarize } from "../statistics.js";
import { figure, type Row } from "../table.js";
import { type Boot, type Boots, medianMemory } from "./boot.js";
import type { Runs } from "./compute.js";
import type { Run } from "./contenders.js";
import { BOOTS, type Group, MEMORY_MOST, SCALING } from "./programs.js";

interface Part {
  readonly sections: readonly Section[];
  readonly bars: readonly Bar[];
}

const NOTHING: Part = { sections: [], bars: [] };

const range = (values: readonly number[]): string => {
  const { median: middle, least, most } = summarize(values);
  return `${figure(middle)} (${figure(least)} to ${figure(most)})`;
};

const cpuOf = (runs: Runs, name: string): number[] => (runs[name] ?? []).map(({ cpu }) => cpu);

interface Speed {
  readonly program: string;
  /** Multiples of QEMU's speed and of native time: of the medians. */
  readonly qemu: number;
  readonly native: number;
  readonly row: Row;
}

function speedOf(program: string, runs: Runs): Speed {
  const [own, theirs, bare] = ["ours", "qemu", "native"].map((name) => cpuOf(runs, name));
  const medians = [own, theirs, bare].map((values) => median(values ?? []));
  const [mine = Number.NaN, peer = Number.NaN, host = Number.NaN] = medians;
  const spread = summarize(ratios(theirs ?? [], own ?? []));
  return {
    program,
    qemu: peer / mine,
    native: mine / host,
    row: [
      program,
      ...medians.map(figure),
      figure(peer / mine),
      `${figure(spread.least)} to ${figure(spread.most)}`,
      figure(mine / host),
      figure(peer / host),
    ],
  };
}

const HEADER: Row = [
  "program",
  "ours, s",
  "QEMU, s",
  "native, s",
  "x QEMU's speed",
  "spread",
  "x native time",
  "QEMU's",
];

function meanRow(speeds: readonly Speed[]): Row {
  const qemu = geometricMean(speeds.map((speed) => speed.qemu));
  const native = geometricMean(speeds.map((speed) => speed.native));
  return ["geometric mean", "", "", "", figure(qemu), "", figure(native), figure(native * qemu)];
}

/** The means only when all of the group was measured. */
export function reportGroup(group: Group, measured: ReadonlyMap<string, Runs>): Part {
  const speeds = group.programs.flatMap((program) => {
    const runs = measured.get(program);
    return runs === undefined ? [] : [speedOf(program, runs)];
  });
  if (speeds.length === 0) return NOTHING;
  const bars: Bar[] = speeds.map(({ program, qemu }) => ({
    what: `${program}: x QEMU's speed`,
    value: qemu,
    least: group.exceptions?.[program] ?? group.each,
  }));
  if (speeds.length === group.programs.length) bars.push(...means(group, speeds));
  const rows = [...speeds.map(({ row }) => row), meanRow(speeds)];
  return { sections: [{ title: `CPU seconds: ${group.name}`, header: HEADER, rows }], bars };
}

function means(group: Group, speeds: readonly Speed[]): Bar[] {
  const bars: Bar[] = [];
  if (group.mean !== undefined)
    bars.push({
      what: `${group.name}, mean: x QEMU's speed`,
      value: geometricMean(speeds.map((speed) => speed.qemu)),
      least: group.mean,
    });
  if (group.native !== undefined)
    bars.push({
      what: `${group.name}, mean: x native time`,
      value: geometricMean(speeds.map((speed) => speed.native)),
      most: group.native,
    });
  return bars;
}

// ---- two processors --------------------------------------------------------------------------------

/** What two processors do as a multiple of what one does, each round. */
interface Scaling {
  /** In the same time. */
  readonly clock: readonly number[];
  /** The same of the shortest times of all rounds: what the host allowed at its quietest. */
  readonly best: number;
  /** With the same CPU time of each: 2 where neither gets into the other's way. */
  readonly work: readonly number[];
}

function scalingOf(measured: ReadonlyMap<string, Runs>, name: string): Scaling {
  const runs = (program: string): readonly Run[] => measured.get(program)?.[name] ?? [];
  const [one, two] = [runs(SCALING.one), runs(SCALING.two)];
  const of = (what: "wall" | "cpu"): [number[], number[]] => [
    one.map((run) => run[what]),
    two.map((run) => run[what]),
  ];
  const shortest = of("wall").map((walls) => Math.min(...walls));
  return {
    clock: ratios(...of("wall")).map((ratio) => 2 * ratio),
    best: (2 * (shortest[0] ?? Number.NaN)) / (shortest[1] ?? Number.NaN),
    work: ratios(...of("cpu")).map((ratio) => 4 * ratio),
  };
}

function scalingRow(name: string, { clock, best, work }: Scaling): Row {
  const spread = summarize(clock);
  return [
    name,
    figure(spread.median),
    `${figure(spread.least)} to ${figure(spread.most)}`,
    figure(best),
    range(work),
  ];
}

export function reportScaling(measured: ReadonlyMap<string, Runs>): Part {
  if (measured.size === 0) return NOTHING;
  const names = ["ours", "qemu", "native"] as const;
  const [own, qemu, bare] = names.map((name) => scalingOf(measured, name));
  if (own === undefined || qemu === undefined || bare === undefined) return NOTHING;
  const bar = (how: string, value: number): Bar => ({
    what: `two busy CPUs, ${how}: scaling as a multiple of native's`,
    value,
    least: SCALING.least,
  });
  return {
    sections: [
      {
        title: "Work done by two busy CPUs as a multiple of one's",
        header: ["", "by the clock", "spread", "shortest times", "by CPU time"],
        rows: [scalingRow("ours", own), scalingRow("qemu", qemu), scalingRow("native", bare)],
      },
    ],
    bars: [
      bar("by the clock", median(ratios(own.clock, bare.clock))),
      bar("by CPU time", median(own.work) / median(bare.work)),
    ],
  };
}

// ---- boots -----------------------------------------------------------------------------------------

const MB = 1e6;
const millions = (value: number | undefined): string =>
  value === undefined || Number.isNaN(value) ? "-" : figure(value / MB);

function bootRow(cpus: number, { ours, qemu, qemuInstructions }: Boots): Row {
  const [own, theirs] = [ours, qemu].map((boots) => boots.map(({ cpu }) => cpu));
  const each = summarize(ratios(own ?? [], theirs ?? []));
  return [
    `${cpus} CPU${cpus === 1 ? "" : "s"}`,
    range(own ?? []),
    range(theirs ?? []),
    figure(median(own ?? []) / median(theirs ?? [])),
    `${figure(each.least)} to ${figure(each.most)}`,
    millions(median(ours.map(({ instructions = Number.NaN }) => instructions))),
    millions(qemuInstructions),
  ];
}

function partRows(cpus: number, { ours, qemu }: Boots): Row[] {
  const names = [...new Set([...ours, ...qemu].flatMap(({ memory }) => Object.keys(memory.parts)))];
  const of = (boots: readonly Boot[], name: string): string =>
    figure(median(boots.map(({ memory }) => memory.parts[name] ?? 0)) / MB);
  return [
    ...names.map((name) => [`${cpus} CPU: ${name}`, of(ours, name), of(qemu, name)]),
    [`${cpus} CPU: all`, figure(medianMemory(ours) / MB), figure(medianMemory(qemu) / MB)],
  ];
}

function bootBars(cpus: number, most: number, { ours, qemu }: Boots): Bar[] {
  const cpu = (boots: readonly Boot[]): number => median(boots.map((boot) => boot.cpu));
  return [
    { what: `boot, ${cpus} CPU: x QEMU's CPU seconds`, value: cpu(ours) / cpu(qemu), most },
    {
      what: `boot, ${cpus} CPU: x QEMU's private memory`,
      value: medianMemory(ours) / medianMemory(qemu),
      most: MEMORY_MOST,
    },
  ];
}

export function reportBoots(measured: ReadonlyMap<number, Boots>): Part {
  if (measured.size === 0) return NOTHING;
  const all = [...measured];
  return {
    sections: [
      {
        title: "Boot of Debian's cloud kernel to user space, process start included: CPU seconds",
        header: ["", "ours", "QEMU", "ratio", "spread", "ours, M instructions", "QEMU's"],
        rows: all.map(([cpus, boots]) => bootRow(cpus, boots)),
      },
      {
        title: "Private memory at the end of the boot, without guest memory, MB",
        header: ["", "ours", "QEMU"],
        rows: all.flatMap(([cpus, boots]) => partRows(cpus, boots)),
      },
    ],
    bars: BOOTS.flatMap(({ cpus, most }) => {
      const boots = measured.get(cpus);
      return boots === undefined ? [] : bootBars(cpus, most, boots);
    }),
  };
}
