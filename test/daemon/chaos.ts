// Rounds of sudden death: a client creates, starts, stops, changes and deletes VMs while the daemon
// is killed at a random moment; the next daemon must know all that was acknowledged, have every VM
// exactly once, and leave nothing behind. The same seed gives the same requests and moments.
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { VmView } from "../../api-schema/index.js";
import { isOff } from "../../daemon/supervisor/admission.js";
import type { TestDaemon } from "./daemon.js";
import type { Guest } from "./guests.js";
import { processesIn } from "./processes.js";

const NAMES = ["a", "b", "c", "d"] as const;
const GUESTS = ["hello", "count", "powerOff", "tripleFault"] as const satisfies readonly Guest[];
const MAX_LIFE_MS = 500;
/** For what the next daemon has to finish; a busy host takes its time. */
const SETTLE_MS = 60_000;

/** What a client knows of a VM; a request without an answer leaves two things possible. */
interface Belief {
  exists: boolean | "perhaps";
  /** Values of the label that a client may find. */
  labels: Set<string>;
  /** Powers wished for, as far as a client can know. */
  powers: Set<string>;
  /** A start was acknowledged, and nothing has been asked since. */
  started: boolean;
}

export interface ChaosOutcome {
  readonly rounds: number;
  readonly acknowledged: number;
  readonly unanswered: number;
  readonly refused: number;
  /** Rounds that a daemon was killed in with something on its way. */
  readonly torn: number;
}

export class Chaos {
  readonly #daemon: TestDaemon;
  readonly #random: () => number;
  readonly #beliefs = new Map<string, Belief>();
  #serial = 0;
  #acknowledged = 0;
  #unanswered = 0;
  #refused = 0;
  #torn = 0;

  constructor(daemon: TestDaemon, seed: number) {
    this.#daemon = daemon;
    this.#random = generator(seed);
    for (const name of NAMES) this.#beliefs.set(name, newBelief());
  }

  async run(rounds: number, told: (round: number) => void = () => {}): Promise<ChaosOutcome> {
    for (let round = 1; round <= rounds; round++) {
      await this.#round(round);
      told(round);
    }
    return {
      rounds,
      acknowledged: this.#acknowledged,
      unanswered: this.#unanswered,
      refused: this.#refused,
      torn: this.#torn,
    };
  }

  async #round(round: number): Promise<void> {
    const unanswered = this.#unanswered;
    const life = { over: false };
    const clients = NAMES.map((name) => this.#client(name, life));
    await sleep(this.#random() * MAX_LIFE_MS);
    life.over = true;
    await this.#daemon.kill("SIGKILL");
    await Promise.all(clients);
    if (this.#unanswered > unanswered) this.#torn++;
    await this.#daemon.launch();
    await this.#check(round);
  }

  /** One after the other, so that what is acknowledged has an order. */
  async #client(name: string, life: { readonly over: boolean }): Promise<void> {
    while (!life.over) {
      const belief = this.#beliefs.get(name) ?? newBelief();
      await this.#request(name, belief);
    }
  }

  async #request(name: string, belief: Belief): Promise<void> {
    const draw = this.#random();
    if (draw < 0.6 || draw >= 0.9) belief.started = false;
    if (belief.exists !== true) await this.#create(name, belief);
    else if (draw < 0.3) await this.#verb(name, belief, "start", "running");
    else if (draw < 0.5) await this.#verb(name, belief, "stop", "stopped");
    else if (draw < 0.6) await this.#verb(name, belief, "kill", "stopped");
    else if (draw < 0.9) await this.#label(name, belief);
    else await this.#delete(name, belief);
  }

  async #create(name: string, belief: Belief): Promise<void> {
    const mark = this.#mark();
    const guest = GUESTS[Math.floor(this.#random() * GUESTS.length)] ?? "hello";
    const kernel = join(this.#daemon.folder, `${guest}.bin`);
    const boot = { kind: "multiboot", kernel };
    const status = await this.#send("POST", "/vms", {
      name,
      memory: 2 ** 24,
      boot,
      labels: { mark },
    });
    if (status === 201)
      Object.assign(belief, {
        exists: true,
        labels: new Set([mark]),
        powers: new Set(["stopped"]),
      });
    else if (status === undefined) {
      if (belief.exists === false) Object.assign(belief, newBelief());
      belief.exists = "perhaps";
      belief.labels.add(mark);
      belief.powers.add("stopped");
    } else if (status === 409) belief.exists = true;
  }

  async #verb(name: string, belief: Belief, verb: string, power: string): Promise<void> {
    const status = await this.#send("POST", `/vms/${name}/${verb}`, {});
    if (status === 200) belief.powers = new Set([power]);
    if (status === 200 && verb === "start") belief.started = true;
    else if (status === undefined) belief.powers.add(power);
  }

  async #label(name: string, belief: Belief): Promise<void> {
    const mark = this.#mark();
    const status = await this.#send("PATCH", `/vms/${name}`, { labels: { mark } });
    if (status === 200) belief.labels = new Set([mark]);
    else if (status === undefined) belief.labels.add(mark);
  }

  async #delete(name: string, belief: Belief): Promise<void> {
    const status = await this.#send("DELETE", `/vms/${name}`);
    if (status === 204) Object.assign(belief, newBelief());
    else if (status === undefined) belief.exists = "perhaps";
  }

  #mark(): string {
    return `m${++this.#serial}`;
  }

  /** The status of the answer; undefined where the daemon died before it came. */
  async #send(method: string, path: string, body?: unknown): Promise<number | undefined> {
    try {
      const { status, text } = await this.#daemon.raw(method, `/v1${path}`, {
        ...(body === undefined
          ? {}
          : { headers: { "content-type": "application/json" }, body: JSON.stringify(body) }),
      });
      if (status >= 500 && status !== 502) throw new Error(`${method} ${path}: ${status} ${text}`);
      if (status < 300) this.#acknowledged++;
      else this.#refused++;
      return status;
    } catch (error) {
      if (!isGone(error)) throw error;
      this.#unanswered++;
      return undefined;
    }
  }

  async #check(round: number): Promise<void> {
    const { vms } = await this.#daemon.client.json<{ vms: VmView[] }>("GET", "/vms");
    for (const name of NAMES)
      this.#compare(
        round,
        name,
        vms.find((vm) => vm.name === name),
      );
    expectThat(vms.length <= NAMES.length, round, `there are ${vms.length} VMs`);
    for (const { uuid, power, name } of vms)
      if (power === "stopped") await this.#goesOff(round, uuid, name);
    await this.#processes(round, vms);
  }

  /** At once, or as soon as the daemon has finished what the one before had begun. */
  async #goesOff(round: number, uuid: string, name: string): Promise<void> {
    const deadline = Date.now() + SETTLE_MS;
    for (;;) {
      const { status } = await this.#daemon.client.json<VmView>("GET", `/vms/${uuid}`);
      if (isOff(status.state)) return;
      expectThat(Date.now() < deadline, round, `${name} should be off, and is ${status.state}`);
      await sleep(50);
    }
  }

  /** What was acknowledged is so; of what was not, one or the other is. */
  #compare(round: number, name: string, vm: VmView | undefined): void {
    const belief = this.#beliefs.get(name) ?? newBelief();
    if (belief.exists !== "perhaps")
      expectThat((vm !== undefined) === belief.exists, round, `${name}: lost, or back again`);
    if (vm === undefined) return void this.#beliefs.set(name, newBelief());
    const mark = vm.definition.labels.mark ?? "";
    expectThat(belief.labels.has(mark), round, `${name}: ${mark}, not ${[...belief.labels]}`);
    expectThat(
      belief.powers.has(vm.power),
      round,
      `${name}: ${vm.power}, not ${[...belief.powers]}`,
    );
    const { state, reason, detail } = vm.status;
    expectThat(reason !== "killed by signal", round, `${name} was ended: ${detail}`);
    if (belief.started && goesOn(vm))
      expectThat(state === "running", round, `${name} is ${state}: ${reason}, ${detail}`);
    this.#beliefs.set(name, {
      exists: true,
      labels: new Set([mark]),
      powers: new Set([vm.power]),
      started: belief.started && state === "running",
    });
  }

  /** Each process belongs to a VM that says so, and a VM has one at most. */
  async #processes(round: number, vms: readonly VmView[]): Promise<void> {
    const run = join(this.#daemon.folder, "run", "vm");
    const known = (): Set<number> =>
      new Set(vms.flatMap(({ status }) => (status.pid === undefined ? [] : [status.pid])));
    // One that was being started when the daemon died finds out that it has no folder, and ends.
    const deadline = Date.now() + SETTLE_MS;
    for (;;) {
      const strangers = processesIn(run).filter((pid) => !known().has(pid));
      if (strangers.length === 0) break;
      expectThat(Date.now() < deadline, round, `nobody's processes: ${strangers}`);
      await sleep(50);
      vms = (await this.#daemon.client.json<{ vms: VmView[] }>("GET", "/vms")).vms;
    }
    for (const folder of existsSync(run) ? readdirSync(run) : []) {
      const vm = vms.find(({ uuid }) => uuid.replaceAll("-", "") === folder);
      expectThat(vm !== undefined, round, `a folder of no VM: ${folder}`);
      const socket = existsSync(join(run, folder, "vm.sock"));
      const now = await this.#daemon.client.json<VmView>("GET", `/vms/${vm?.uuid}`);
      if (socket && isOff(now.status.state) && isOff(vm?.status.state ?? "stopped"))
        expectThat(false, round, `${vm?.name} is off and has a socket`);
    }
  }
}

const newBelief = (): Belief => ({
  exists: false,
  labels: new Set(),
  powers: new Set(),
  started: false,
});

/** Its guest never ends by itself. */
const goesOn = ({ definition }: VmView): boolean =>
  /(hello|count)\.bin$/.test(definition.boot.kernel);

function expectThat(holds: boolean, round: number, what: string): void {
  if (!holds) throw new Error(`round ${round}: ${what}`);
}

/** The connection ended, or there is no daemon. */
const isGone = (error: unknown): boolean =>
  ["ECONNRESET", "ECONNREFUSED", "ENOENT", "EPIPE"].includes(
    (error as NodeJS.ErrnoException).code ?? "",
  );

/** mulberry32: the same numbers for the same seed, 0 to below 1. */
export function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
