// `npm run bench -- [NAME…] [--count N] [--only A,B] [--json]`: measures, prints tables and which bars
// hold. The exit status is 1 where one does not.
import { cpus, release } from "node:os";
import { parseArgs } from "node:util";
import { type Bar, type Bench, type BenchReport, holds } from "./bench.js";
import { cpu } from "./cpu/index.js";
import { daemon } from "./daemon/index.js";
import { exits } from "./exits/index.js";
import { io } from "./io/index.js";
import { figure, table } from "./table.js";

const BENCHES: readonly Bench[] = [cpu, io, daemon, exits];

const say = (text: string): void => void process.stdout.write(`${text}\n`);
const progress = (text: string): void => void process.stderr.write(`${text}\n`);

const usage = (): string => `usage: npm run bench -- [NAME ...] [--count N] [--only A,B] [--json]

${BENCHES.map(({ name, summary }) => `  ${name.padEnd(10)}${summary}`).join("\n")}

  --count N    how often each thing is measured (5)
  --only A,B   only these of the bench's things
  --json       everything measured, as JSON, instead of tables`;

function barRow(bar: Bar): string[] {
  const demand = [
    ...(bar.least === undefined ? [] : [`at least ${bar.least}`]),
    ...(bar.most === undefined ? [] : [`at most ${bar.most}`]),
  ].join(", ");
  return [bar.what, figure(bar.value), demand, holds(bar) ? "holds" : "SHORT"];
}

function print({ sections, bars }: BenchReport): void {
  for (const { title, header, rows } of sections) say(`\n${title}\n\n${table(header, rows)}`);
  if (bars.length > 0)
    say(`\nBars\n\n${table(["what", "value", "demanded", ""], bars.map(barRow))}`);
}

const machine = (): string => {
  const all = cpus();
  return `${new Date().toISOString().slice(0, 10)}, ${all.length} x ${all[0]?.model ?? "CPU"}, Linux ${release()}, Node ${process.versions.node}`;
};

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      count: { type: "string", default: "5" },
      only: { type: "string", default: "" },
      json: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  const unknown = positionals.find((name) => !BENCHES.some((bench) => bench.name === name));
  const count = Number(values.count);
  if (unknown !== undefined) throw new Error(`no bench ${unknown}\n\n${usage()}`);
  if (!Number.isInteger(count) || count < 1) throw new Error("--count must be at least 1");
  if (values.help) return say(usage());
  const chosen = BENCHES.filter(
    ({ name }) => positionals.length === 0 || positionals.includes(name),
  );
  const only = values.only.split(",").filter((name) => name !== "");
  const results: Record<string, unknown> = {};
  if (!values.json) say(machine());
  for (const bench of chosen) {
    const report = await bench.run({ count, only, progress });
    results[bench.name] = {
      bars: report.bars.map((bar) => ({ ...bar, holds: holds(bar) })),
      data: report.data,
    };
    if (!values.json) print(report);
    if (!report.bars.every(holds)) process.exitCode = 1;
  }
  if (values.json) say(JSON.stringify({ machine: machine(), results }, undefined, 2));
}

main().catch((error: unknown) => {
  process.stderr.write(`bench: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 2;
});
