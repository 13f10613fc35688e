// `worker.js ACCELERATOR`: prints what an exit of each way costs there, in nanoseconds of CPU of all
// threads of this process, as JSON. A process of its own, so that it can be bound to one core.
import { createMachine } from "../../native/index.js";
import type { Machine, MachineOptions } from "../../native/types.js";
import { median } from "../statistics.js";
import { ACCESS, exitOf, loop, mapDevice, WAYS, type Way } from "./ways.js";

const CODE = 0x1000;
const ROUNDS = 9;
const LEAST_NS = 20e6;
const MOST_TURNS = 2 ** 20;

/** hv::Segment's access rights: flat, 32 bits, present; code in CS, which is the second. */
const flat = (index: number) => ({
  base: 0,
  limit: 0xffffffff,
  access: index === 1 ? 0xc09b : 0xc093,
  selector: index === 1 ? 8 : 16,
});

class Rig {
  readonly machine: Machine;
  readonly served: () => number;
  #started = false;
  #halted: () => void = () => {};

  constructor(accelerator: MachineOptions["accelerator"]) {
    this.machine = createMachine({ cpus: 1, memory: 2 ** 24, accelerator });
    this.served = mapDevice(this.machine);
    this.machine.onEvent(({ kind }) => {
      if (kind === "halted") this.#halted();
    });
  }

  /** Nanoseconds of CPU from the first instruction to the halt. */
  async time(code: Uint8Array): Promise<number> {
    const { machine } = this;
    machine.memory.write(CODE, code);
    const saved = machine.vcpu(0);
    const state = saved.state as { segments: object[] };
    const segments = state.segments.map((_, index) => flat(index));
    const running = { rip: CODE, cr0: 0x11, rflags: 2, segments, activity: 0 };
    machine.setVcpu(0, { ...saved, state: { ...state, ...running } });
    const halted = new Promise<void>((done) => {
      this.#halted = done;
    });
    const before = process.cpuUsage();
    if (this.#started) machine.resume();
    else machine.start();
    this.#started = true;
    await halted;
    const { user, system } = process.cpuUsage(before);
    await machine.pause();
    return (user + system) * 1000;
  }

  /** So many turns that what start and halt cost does not show; they warm JavaScript up too. */
  async turns(way: Way): Promise<number> {
    const access = ACCESS[way];
    for (let turns = 1024; ; turns *= 2)
      if (
        turns >= MOST_TURNS ||
        (await this.time(loop(turns, access.port, exitOf(access)))) > LEAST_NS
      )
        return turns;
  }

  async measure(way: Way): Promise<number> {
    const access = ACCESS[way];
    const turns = await this.turns(way);
    const rounds: number[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      const without = await this.time(loop(turns, access.port));
      const before = this.served();
      const took = await this.time(loop(turns, access.port, exitOf(access)));
      check(way, this.served() - before, turns);
      rounds.push((took - without) / turns);
    }
    return median(rounds);
  }
}

/** A figure of a way that was not taken would be of something else. */
function check(way: Way, served: number, turns: number): void {
  const [least, most] = {
    native: [0, 0],
    shadow: [0, 0],
    posted: [turns, turns],
    doorbell: [1, turns], // coalesced
    direct: [turns, turns],
  }[way] as [number, number];
  if (served < least || served > most)
    throw new Error(`${way}: ${served} of ${turns} accesses came to JavaScript`);
}

const rig = new Rig(process.argv[2] as MachineOptions["accelerator"]);
const figures: Partial<Record<Way, number>> = {};
for (const way of WAYS) figures[way] = await rig.measure(way);
await rig.machine.destroy();
process.stdout.write(`${JSON.stringify(figures)}\n`);
