// Medians, spreads and geometric means.

export interface Summary {
  readonly median: number;
  readonly least: number;
  readonly most: number;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}

export const summarize = (values: readonly number[]): Summary => ({
  median: median(values),
  least: Math.min(...values),
  most: Math.max(...values),
});

export const geometricMean = (values: readonly number[]): number =>
  Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length);

/** Of two lists measured in alternation: the ratio in each round. */
export const ratios = (above: readonly number[], below: readonly number[]): number[] =>
  above.slice(0, below.length).map((value, round) => value / (below[round] ?? Number.NaN));

/** `first` to `last` in turn, round by round; every other round backwards, so that nobody always
 * follows the same neighbour. */
export async function alternate<T>(
  rounds: number,
  contenders: readonly T[],
  measure: (contender: T, round: number) => Promise<void>,
): Promise<void> {
  for (let round = 0; round < rounds; round++) {
    const order = round % 2 === 0 ? contenders : [...contenders].reverse();
    for (const contender of order) await measure(contender, round);
  }
}
