// Programs within guests that stay up: ours, QEMU's and the host in turn, round by round.
import type { BenchOptions } from "../bench.js";
import { type Contender, READY, waitFor } from "../contender.js";
import { alternate } from "../statistics.js";
import { type Run, runProgram } from "./contenders.js";

/** Runs of one program, by contender and round. */
export type Runs = Readonly<Record<string, readonly Run[]>>;

export async function measurePrograms(
  contenders: readonly Contender[],
  programs: readonly string[],
  { count, progress }: BenchOptions,
): Promise<Map<string, Runs>> {
  for (const contender of contenders) await waitFor(contender, new RegExp(READY));
  const all = new Map<string, Record<string, Run[]>>();
  for (const program of programs) {
    progress(`  ${program}`);
    const runs: Record<string, Run[]> = {};
    all.set(program, runs);
    await alternate(count, contenders, async (contender) => {
      runs[contender.name] ??= [];
      runs[contender.name]?.push(await runProgram(contender, program));
    });
    sameAnswers(program, runs);
  }
  return all;
}

/**
 * As measurePrograms(), but all programs of one contender follow each other within each round, so
 * that what else the host does falls on all of them alike.
 */
export async function measureTogether(
  contenders: readonly Contender[],
  programs: readonly string[],
  { count, progress }: BenchOptions,
): Promise<Map<string, Runs>> {
  for (const contender of contenders) await waitFor(contender, new RegExp(READY));
  progress(`  ${programs.join(", ")}: ${count} times`);
  const all = new Map<string, Record<string, Run[]>>();
  for (const program of programs)
    all.set(program, Object.fromEntries(contenders.map(({ name }) => [name, []])));
  await alternate(count, contenders, async (contender, round) => {
    const order = round % 2 === 0 ? programs : [...programs].reverse();
    for (const program of order)
      all.get(program)?.[contender.name]?.push(await runProgram(contender, program));
  });
  for (const [program, runs] of all) sameAnswers(program, runs);
  return all;
}

/** A wrong answer is no speed. */
function sameAnswers(program: string, runs: Runs): void {
  const answers = Object.entries(runs).flatMap(([name, list]) =>
    list.map(({ checksum }) => ({ name, checksum })),
  );
  const wrong = answers.find(({ checksum }) => checksum !== answers[0]?.checksum);
  if (wrong !== undefined)
    throw new Error(
      `${program}: ${answers[0]?.name} answers ${answers[0]?.checksum}, ${wrong.name} ${wrong.checksum}`,
    );
}
