// Numbers that the same seed gives again.

export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0 || 1;
  }
  /** xorshift32 */
  next(): number {
    let state = this.#state;
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    this.#state = state;
    return state >>> 0;
  }
  below(limit: number): number {
    return this.next() % limit;
  }
  chance(of: number): boolean {
    return this.below(of) === 0;
  }
  pick<T>(from: readonly [T, ...T[]]): T {
    return from[this.below(from.length)] ?? from[0];
  }
}
