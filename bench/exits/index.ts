// `npm run bench -- exits`: what each way out of the guest costs on each accelerator, JavaScript
// serving, beside the least that it could: a bare KVM_RUN loop, and two threads that wake each other.
import { execFile, execFileSync } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { acceleratorInfo } from "../../native/index.js";
import { projectRoot } from "../../test/guest/paths.js";
import type { Bar, Bench, BenchOptions, BenchReport } from "../bench.js";
import { alternate, median, ratios, summarize } from "../statistics.js";
import { figure, type Row } from "../table.js";
import { type ExitFigures, WAYS } from "./ways.js";

const WORKER = fileURLToPath(new URL("worker.js", import.meta.url));
const PEERS = join(projectRoot, "build", "core", "exits-peers");
/** All on one core: a wait of one thread is a switch to the other, and nothing spins. */
const CORE = "0";

const MOST_NATIVE = 1.15;
const MOST_DIRECT = 2.2;

interface PeerFigures {
  /** null where there is no /dev/kvm. */
  readonly kvm: number | null;
  readonly futex: number;
}

/** By round. */
interface Measured {
  readonly soft: ExitFigures[];
  readonly kvm: ExitFigures[];
  readonly peers: PeerFigures[];
}
type Contender = keyof Measured;

const run = promisify(execFile);

async function pinned<T>(program: string, ...args: readonly string[]): Promise<T> {
  const { stdout } = await run("taskset", ["-c", CORE, program, ...args]);
  return JSON.parse(stdout) as T;
}

function buildPeers(): void {
  execFileSync("make", ["-s", "-C", join(projectRoot, "native", "test"), "exits-peers"], {
    stdio: ["ignore", "ignore", "inherit"],
  });
}

const chosen = (only: readonly string[]): Contender[] => [
  "peers",
  ...(["soft", "kvm"] as const).filter(
    (name) =>
      (only.length === 0 || only.includes(name)) &&
      acceleratorInfo().some((each) => each.name === name && each.usable),
  ),
];

async function measure({ count, only, progress }: BenchOptions): Promise<Measured> {
  const measured: Measured = { soft: [], kvm: [], peers: [] };
  await alternate(count, chosen(only), async (contender, round) => {
    progress(`  ${contender}, round ${round + 1}`);
    if (contender === "peers") measured.peers.push(await pinned<PeerFigures>(PEERS));
    else measured[contender].push(await pinned<ExitFigures>(process.execPath, WORKER, contender));
  });
  return measured;
}

const spread = (values: readonly number[]): string => {
  const { median: middle, least, most } = summarize(values);
  return `${figure(middle)} (${figure(least)} to ${figure(most)})`;
};

const column = (values: readonly number[]): string => (values.length === 0 ? "-" : spread(values));

/** Empty on a host without /dev/kvm. */
const bareExits = ({ peers }: Measured): number[] => peers.flatMap(({ kvm }) => kvm ?? []);

function rows(measured: Measured): Row[] {
  const ways = WAYS.map(
    (way): Row => [
      way,
      ...(["soft", "kvm"] as const).map((name) => column(measured[name].map((each) => each[way]))),
    ],
  );
  return [
    ...ways,
    ["bare KVM_RUN loop", "-", column(bareExits(measured))],
    ["futex round trip", column(measured.peers.map(({ futex }) => futex)), "-"],
  ];
}

function bars(measured: Measured): Bar[] {
  const native = ratios(
    measured.kvm.map((each) => each.native),
    bareExits(measured),
  );
  const direct = ratios(
    measured.soft.map((each) => each.direct),
    measured.peers.map(({ futex }) => futex),
  );
  const bar = (what: string, values: readonly number[], most: number): Bar[] =>
    values.length === 0 ? [] : [{ what, value: median(values), most }];
  return [
    ...bar("native exit on kvm / bare KVM_RUN loop", native, MOST_NATIVE),
    ...bar("direct exit on soft / futex round trip", direct, MOST_DIRECT),
  ];
}

export const exits: Bench = {
  name: "exits",
  summary: "what an exit costs, by accelerator and way; --only soft,kvm",
  async run(options: BenchOptions): Promise<BenchReport> {
    buildPeers();
    const measured = await measure(options);
    const section = {
      title:
        "Cost of an exit, ns of CPU of all threads on one core: median of rounds (least to most)",
      header: ["way", "soft", "kvm"],
      rows: rows(measured),
    };
    return { sections: [section], bars: bars(measured), data: measured };
  },
};
