// A whole machine with every device, and rounds of hostile traffic at it. Whatever is thrown at it,
// it must halt, pause, save and restore as any machine does.

import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parse, VmDefinition } from "../../api-schema/index.js";
import { PciBus } from "../../devices/pci/bus.js";
import { NoneBackend } from "../../devices/serial/backend.js";
import { createMachine } from "../../native/index.js";
import type { Machine, SavedComponent } from "../../native/types.js";
import { assemble } from "../../vmm/assembly.js";
import { OpenDisks } from "../../vmm/disks.js";
import { namedFiles } from "../../vmm/host-files.js";
import { HostSockets } from "../../vmm/host-sockets.js";
import type { Assembled } from "../../vmm/machine.js";
import { Networks } from "../../vmm/networks.js";
import { placeDevices } from "../../vmm/slots.js";
import { HostilePeer } from "./peer.js";
import { load } from "./player.js";
import { Random } from "./random.js";
import { ARENA, fillArena, traffic, type Window } from "./traffic.js";

const MEMORY = 16 * 2 ** 20;
const HALT_MS = 2_000;
const PAUSE_MS = 20_000;
const BAR_COUNT = 6;

const define = (folder: string): VmDefinition =>
  parse(VmDefinition, {
    name: "fuzzed",
    uuid: "11111111-2222-4333-8444-777777777777",
    cpus: 1,
    memory: MEMORY,
    accelerator: "soft",
    boot: { kind: "linux", kernel: "none" },
    debugexit: true,
    devices: [
      { slot: "0:0", type: "hostbridge" },
      { slot: "0:1", type: "amd_hostbridge" },
      { slot: "1:0", type: "ahci-hd", path: join(folder, "a.img") },
      { slot: "2:0", type: "ahci-cd", path: join(folder, "c.iso") },
      {
        slot: "3:0",
        type: "ahci",
        ports: [{ type: "hd", path: join(folder, "b.img"), logicalSector: 4096 }, { type: "cd" }],
      },
      { slot: "4:0", type: "virtio-blk", path: join(folder, "d.img"), queues: 2 },
      { slot: "5:0", type: "virtio-rnd" },
      { slot: "6:0", type: "virtio-console" },
      {
        slot: "7:0",
        type: "virtio-net",
        backend: { kind: "stream", socket: join(folder, "stream") },
      },
      // On one network: what the one sends, the other gets.
      { slot: "11:0", type: "virtio-net", backend: { kind: "switch", network: "fuzz" } },
      { slot: "12:0", type: "virtio-net", backend: { kind: "switch", network: "fuzz" } },
      { slot: "8:0", type: "uart" },
      { slot: "9:0", type: "dummy" },
      { slot: "10:0", type: "virtio-sock", cid: 3, socket: join(folder, "socket") },
      { slot: "31:0", type: "lpc" },
    ],
  });

export interface Tally {
  rounds: number;
  accesses: number;
  /** Rounds that the guest came to the end of. */
  halted: number;
}

export class FuzzedMachine {
  readonly tally: Tally = { rounds: 0, accesses: 0, halted: 0 };
  readonly #folder: string;
  readonly #peer: HostilePeer;
  readonly #machine: Machine;
  readonly #assembled: Assembled;
  #began = false;
  #ended: () => void = () => {};

  private constructor(folder: string, peer: HostilePeer, machine: Machine, assembled: Assembled) {
    this.#folder = folder;
    this.#peer = peer;
    this.#machine = machine;
    this.#assembled = assembled;
    machine.onEvent(() => this.#ended());
  }

  static async make(): Promise<FuzzedMachine> {
    const folder = mkdtempSync(join(tmpdir(), "xhyved-fuzz-"));
    for (const name of ["a.img", "b.img", "c.iso", "d.img"]) {
      writeFileSync(join(folder, name), "");
      truncateSync(join(folder, name), 2 ** 20);
    }
    process.env.XHYVED_NETWORKS = join(folder, "networks");
    const peer = await HostilePeer.listen(join(folder, "stream"));
    const definition = define(folder);
    const placed = placeDevices(definition.devices);
    const files = namedFiles(() => true);
    const disks = await OpenDisks.open(placed, files);
    const machine = createMachine({ cpus: 1, memory: MEMORY, accelerator: "soft" });
    const networks = await Networks.open(definition, machine.net, () => {});
    const sockets = await HostSockets.open(placed);
    const serial = { com1: new NoneBackend(), com2: new NoneBackend(), pci: new Map() };
    const nothing = (): void => {};
    const requests = {
      ...{ powerOff: nothing, reset: nothing, debugExit: nothing, diskFull: nothing },
    };
    const opened = { serial, disks, files, sockets, networks };
    const assembled = assemble({ definition, placed, machine, requests, ...opened });
    return new FuzzedMachine(folder, peer, machine, assembled);
  }

  /** Throws where the machine does not hold. */
  async round(seed: number): Promise<void> {
    const random = new Random(seed);
    const { memory } = this.#machine;
    const arena = memory.view(ARENA.base, ARENA.length);
    if (arena === undefined) throw new Error("the arena is not in memory");
    fillArena(random, arena);
    memory.written(ARENA.base, ARENA.length);
    this.#peer.say(random);
    const accesses = traffic(random, this.#windows());
    load(this.#machine, accesses);
    this.tally.rounds++;
    this.tally.accesses += accesses.length;
    await this.#play();
    await within(this.#machine.pause(), PAUSE_MS, "the machine does not pause");
    await within(this.#assembled.devices.rest(), PAUSE_MS, "the devices do not come to rest");
    if (random.chance(4)) this.#saveAndRestore();
    if (random.chance(3)) {
      this.#machine.reset();
      this.#assembled.devices.reset();
    }
  }

  async end(): Promise<void> {
    this.#assembled.devices.dispose();
    await this.#machine.destroy();
    this.#peer.close();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async #play(): Promise<void> {
    const ended = new Promise<boolean>((resolve) => {
      const timer = setTimeout(() => resolve(false), HALT_MS);
      this.#ended = () => {
        clearTimeout(timer);
        resolve(true);
      };
    });
    this.#assembled.devices.wake();
    if (this.#began) this.#machine.resume();
    else this.#machine.start();
    this.#began = true;
    if (await ended) this.tally.halted++;
  }

  #saveAndRestore(): void {
    const native = JSON.stringify(this.#machine.save());
    const devices = JSON.stringify(this.#assembled.devices.save());
    this.#machine.restore(JSON.parse(native) as Record<string, SavedComponent>);
    this.#assembled.devices.restore(JSON.parse(devices) as Record<string, SavedComponent>);
    const again = JSON.stringify(this.#assembled.devices.save());
    if (again !== devices) throw new Error("the devices' state does not survive save and restore");
  }

  /** What the BARs decode now. */
  #windows(): Window[] {
    const pci = this.#assembled.devices.get("pci");
    if (!(pci instanceof PciBus)) throw new Error("there is no PCI bus");
    return Array.from({ length: 32 }, (_, slot) => pci.function({ bus: 0, slot, fn: 0 })).flatMap(
      (fn) => {
        if (fn === undefined) return [];
        const kind = fn.name.startsWith("ahci")
          ? "ahci"
          : fn.name.startsWith("virtio")
            ? "virtio"
            : "other";
        return Array.from({ length: BAR_COUNT }, (_, index) => fn.bar(index)).flatMap(
          (range, index): Window[] => {
            if (range === undefined) return [];
            const { base, length, space } = range.spec;
            const drives = (kind === "ahci" && index === 5) || (kind === "virtio" && index === 2);
            return [
              {
                space: space === "pio" ? "port" : "memory",
                base,
                length,
                kind: drives ? kind : "other",
              },
            ];
          },
        );
      },
    );
  }
}

function within<T>(work: Promise<T>, ms: number, what: string): Promise<T> {
  let timer: NodeJS.Timeout;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(what)), ms);
  });
  return Promise.race([work, late]).finally(() => clearTimeout(timer));
}
