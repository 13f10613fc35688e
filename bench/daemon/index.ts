// `npm run bench -- daemon`: the daemon beside a bare Fastify and SQLite in the same run, in turn.
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { performance } from "node:perf_hooks";
import { fileURLToPath } from "node:url";
import autocannon from "autocannon";
import { guests } from "../../test/daemon/guests.js";
import { projectRoot } from "../../test/guest/paths.js";
import type { Bar, Bench, BenchOptions, BenchReport } from "../bench.js";
import { cpuSeconds } from "../processes.js";
import { alternate, median, ratios } from "../statistics.js";
import { figure } from "../table.js";
import { Contender } from "./contender.js";

const BARE = fileURLToPath(new URL("bare.js", import.meta.url));
const DEFINITIONS = 1_000;
const VMS = 50;

type Side = "ours" | "bare";
interface Figures {
  readonly ours: number[];
  readonly bare: number[];
}
const SIDES: readonly Side[] = ["ours", "bare"];

class Setting {
  readonly folder = mkdtempSync(join(tmpdir(), "xhb-"));
  readonly kernel = join(this.folder, "hello.bin");
  readonly sample = join(this.folder, "sample.json");

  constructor() {
    writeFileSync(this.kernel, guests.hello);
    mkdirSync(join(this.folder, "bare"));
    writeFileSync(this.sample, "{}");
  }

  start(side: Side): Promise<Contender> {
    const at = (...names: string[]): string => join(this.folder, ...names);
    if (side === "bare")
      return Contender.start([BARE, at("bare"), this.sample], at("bare", "bare.sock"));
    const program = join(projectRoot, "bin", "xhyved");
    const folders = ["--state-dir", at("state"), "--runtime-dir", at("run")];
    rmSync(at("run", "xhyved.sock"), { force: true });
    return Contender.start([program, ...folders], at("run", "xhyved.sock"));
  }

  definition(name: string): object {
    return { name, memory: 2 ** 24, boot: { kind: "multiboot", kernel: this.kernel } };
  }

  end(): void {
    for (const vm of names(join(this.folder, "run", "vm"))) {
      try {
        process.kill(Number(readFileSync(join(this.folder, "run", "vm", vm, "lock"), "utf8")), 9);
      } catch {
        // it has ended
      }
    }
    rmSync(this.folder, { recursive: true, force: true });
  }
}

function names(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

/** Milliseconds that each takes, the median of `times`. */
async function timed(times: number, work: (n: number) => Promise<unknown>): Promise<number> {
  const all: number[] = [];
  for (let n = 0; n < times; n++) {
    const began = performance.now();
    await work(n);
    all.push(performance.now() - began);
  }
  return median(all);
}

type Measure = (contender: Contender, side: Side, round: number) => Promise<number>;

/** The same of both, in turn. */
async function both(
  rounds: number,
  contenders: Record<Side, Contender>,
  measure: Measure,
): Promise<Figures> {
  const figures: Figures = { ours: [], bare: [] };
  await alternate(rounds, SIDES, async (side, round) => {
    figures[side].push(await measure(contenders[side], side, round));
  });
  return figures;
}

async function starts(rounds: number, setting: Setting): Promise<Figures> {
  const figures: Figures = { ours: [], bare: [] };
  await alternate(rounds, SIDES, async (side) => {
    rmSync(join(setting.folder, "bare", "bare.sock"), { force: true });
    const contender = await setting.start(side);
    figures[side].push(contender.startMs);
    await contender.end();
  });
  return figures;
}

const creates =
  (setting: Setting): Measure =>
  (contender, side, round) =>
    timed(50, (n) => {
      const body = setting.definition(`c-${round}-${n}`);
      return contender.ask("POST", side === "ours" ? "/v1/vms" : "/things", body);
    });

const lists: Measure = (contender, side) =>
  timed(10, () => contender.ask("GET", side === "ours" ? "/v1/vms" : "/list"));

const events: Measure = async (contender, side) => {
  let heard = (): void => {};
  const stop = await contender.watch(side === "ours" ? "/v1/events" : "/events", () => heard());
  const result = await timed(30, (n) => {
    const event = new Promise<void>((resolve) => {
      heard = resolve;
    });
    const body = { labels: { n: String(n + performance.now()) } };
    const sent =
      side === "ours"
        ? contender.ask("PATCH", "/v1/vms/d-0", body)
        : contender.ask("POST", "/poke", body);
    return Promise.all([event, sent]);
  });
  stop();
  return result;
};

const perSecond: Measure = async (contender, side) => {
  const url = `http://localhost${side === "ours" ? "/v1/vms/d-0" : "/one"}`;
  const options = { url, socketPath: contender.socket, connections: 10, duration: 3 };
  return (await autocannon(options)).requests.average;
};

const residentMiB = (pid: number): number => {
  const [, kib = "0"] = /VmRSS:\s+([0-9]+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8")) ?? [];
  return Number(kib) / 1024;
};

/** Milliseconds of daemon CPU for each VM that it takes back, beyond those of starting at all. */
async function adoption(rounds: number, setting: Setting): Promise<number> {
  const ours = await setting.start("ours");
  for (let n = 0; n < VMS; n++) {
    await ours.ask("POST", "/v1/vms", setting.definition(`r-${n}`));
    await ours.ask("POST", `/v1/vms/r-${n}/start`);
  }
  await ours.end();
  const empty = new Setting();
  const all: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const [full, none] = [await cpuOf(setting), await cpuOf(empty)];
    all.push(((full - none) * 1000) / VMS);
  }
  empty.end();
  return median(all);
}

async function cpuOf(setting: Setting): Promise<number> {
  const ours = await setting.start("ours");
  await ours.ask("GET", "/v1/vms");
  const seconds = cpuSeconds(ours.pid);
  await ours.end();
  return seconds;
}

async function run({ count, only, progress }: BenchOptions): Promise<BenchReport> {
  const wanted = (name: string): boolean => only.length === 0 || only.includes(name);
  const setting = new Setting();
  const rows: [string, Figures, Partial<Bar>][] = [];
  const bars: Bar[] = [];
  const say = (name: string, figures: Figures, bar: Partial<Bar>): void => {
    rows.push([name, figures, bar]);
    bars.push({
      what: `${name}, ratio`,
      value: median(ratios(figures.ours, figures.bare)),
      ...bar,
    });
  };
  try {
    progress("start");
    if (wanted("start")) say("start to socket, ms", await starts(count, setting), { most: 1.5 });
    progress(`${DEFINITIONS} definitions`);
    let ours = await setting.start("ours");
    for (let n = 0; n < DEFINITIONS; n++)
      await ours.ask("POST", "/v1/vms", setting.definition(`d-${n}`));
    const list = JSON.parse(await ours.ask("GET", "/v1/vms")) as object;
    const one = JSON.parse(await ours.ask("GET", "/v1/vms/d-0")) as object;
    writeFileSync(setting.sample, JSON.stringify({ one, list }));
    await ours.end();
    ours = await setting.start("ours");
    if (wanted("memory"))
      bars.push({
        what: `MiB with ${DEFINITIONS} definitions`,
        value: residentMiB(ours.pid),
        most: 120,
      });
    rmSync(join(setting.folder, "bare", "bare.sock"), { force: true });
    const bare = await setting.start("bare");
    const contenders = { ours, bare };
    const measures: [string, string, Measure, Partial<Bar>][] = [
      ["list", `list of ${DEFINITIONS}, ms`, lists, { most: 3 }],
      ["event", "change to its event, ms", events, { most: 2 }],
      ["requests", "requests a second", perSecond, { least: 0.5 }],
      ["create", "create, ms", creates(setting), { most: 2 }],
    ];
    for (const [key, name, measure, bar] of measures) {
      progress(name);
      if (wanted(key)) say(name, await both(count, contenders, measure), bar);
    }
    await ours.end();
    await bare.end();
  } finally {
    setting.end();
  }
  if (wanted("adopt")) {
    progress(`${VMS} VMs taken back`);
    const running = new Setting();
    try {
      const value = await adoption(count, running);
      bars.push({ what: "daemon CPU for each VM taken back, ms", value, most: 20 });
    } finally {
      running.end();
    }
  }
  const table = rows.map(([name, { ours, bare }]) => [
    name,
    figure(median(ours)),
    figure(median(bare)),
  ]);
  const section = { title: "The daemon", header: ["what", "xhyved", "bare"], rows: table };
  return { sections: [section], bars, data: { rows, bars } };
}

export const daemon: Bench = {
  name: "daemon",
  summary:
    "the daemon against a bare Fastify and SQLite (start, list, event, requests, create, memory, adopt)",
  run,
};
