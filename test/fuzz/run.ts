// Rounds until the time is over; a failure names the seed that it began with.
import { FuzzedMachine, type Tally } from "./machine.js";

/** Rounds on one machine, before a new one is made. */
const ROUNDS = 50;

export async function fuzz(seed: number, seconds: number): Promise<Tally> {
  const end = Date.now() + seconds * 1000;
  const all: Tally = { rounds: 0, accesses: 0, halted: 0 };
  for (let first = seed; Date.now() < end; first += ROUNDS) {
    const machine = await FuzzedMachine.make();
    try {
      for (let one = first; one < first + ROUNDS && Date.now() < end; one++)
        await machine.round(one);
    } catch (error) {
      throw new Error(`XHYVED_FUZZ_SEED=${first}, round ${machine.tally.rounds}`, { cause: error });
    } finally {
      await machine.end();
    }
    for (const name of ["rounds", "accesses", "halted"] as const) all[name] += machine.tally[name];
  }
  return all;
}
