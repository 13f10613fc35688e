// What xhyvectl shows as it happens: events, and the load of all VMs.
import { setTimeout as sleep } from "node:timers/promises";
import { type Event, eventKinds, type VmView } from "../../api-schema/index.js";
import { type Client, ClientError } from "./client.js";
import { type Command, type Context, none, number, text, type Values } from "./command.js";
import { bytes, type Cell, table } from "./table.js";
import { allVms, stateCell } from "./vms.js";

const AGAIN_MS = 500;

/** Aborted by Ctrl-C, after which the command ends well. */
function untilInterrupted(): AbortSignal {
  const abort = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => abort.abort());
  return abort.signal;
}

export const events: Command = {
  arguments: "",
  summary: "what happens, as it happens, until Ctrl-C",
  operations: ["watchEvents"],
  options: {
    after: { type: "string", value: "N", help: "those that are kept, after this number; 0: all" },
    vm: { type: "string", value: "VM", help: "of this VM alone" },
    kinds: {
      type: "string",
      value: "KINDS",
      help: "with commas between; vm stands for all that begin with it",
      choices: eventKinds,
    },
    count: { type: "string", short: "n", value: "N", help: "end after so many" },
  },
  notes: ["Over restarts of the daemon it goes on where it was. With --json each is one line."],
  async run(context, positionals, values) {
    none(positionals);
    const signal = untilInterrupted();
    let left = number(values, "count", Number.POSITIVE_INFINITY);
    for await (const event of follow(context.client, filterOf(values), signal)) {
      context.print(context.json ? `${JSON.stringify(event)}\n` : eventLine(event));
      if (--left <= 0) return;
    }
  },
};

interface Filter {
  readonly after?: number;
  readonly vm?: string;
  readonly kinds?: string;
}

function filterOf(values: Values): Filter {
  const [vm, kinds] = [text(values, "vm"), text(values, "kinds")];
  const after = text(values, "after") === undefined ? undefined : number(values, "after", 0);
  return {
    ...(after !== undefined && { after }),
    ...(vm !== undefined && { vm }),
    ...(kinds !== undefined && { kinds }),
  };
}

/** Comes back after a restart of the daemon, where it was. */
async function* follow(
  client: Client,
  { after: first, ...filter }: Filter,
  signal: AbortSignal,
): AsyncGenerator<Event> {
  let after = first;
  for (let tries = 0; !signal.aborted; tries++) {
    try {
      const from = after === undefined ? {} : { after };
      for await (const { sequence, data } of client.events(
        "watchEvents",
        { ...filter, ...from },
        { signal },
      )) {
        after = sequence;
        tries = 0;
        yield data;
      }
    } catch (error) {
      if (signal.aborted) return;
      const refused = error instanceof ClientError && error.problem !== undefined;
      if (refused || (tries === 0 && after === undefined)) throw error;
    }
    await sleep(AGAIN_MS, undefined, { signal }).catch(() => {});
  }
}

function eventLine({ sequence, time, kind, vm, data }: Event): string {
  const about = vm === undefined ? "" : ` ${vm.name}`;
  return `${String(sequence).padStart(6)}  ${time}  ${kind.padEnd(16)}${about}  ${brief(data)}\n`;
}

/** Of what an event carries, what fits beside it. */
function brief(data: Event["data"]): string {
  const parts = Object.entries(data).flatMap(([name, value]) =>
    typeof value === "object" || name === "generation" || name === "id"
      ? []
      : [`${name}=${String(value)}`],
  );
  return parts.join(" ");
}

export const top: Command = {
  arguments: "",
  summary: "all VMs by the CPU time they take, again and again; once where it is no terminal",
  operations: ["listVms", "getVmStatistics"],
  options: {
    interval: { type: "string", short: "d", value: "SECONDS", help: "between two looks (2)" },
    count: { type: "string", short: "n", value: "N", help: "end after so many tables" },
  },
  async run(context, positionals, values) {
    none(positionals);
    const screen = process.stdout.isTTY === true && !context.json;
    const interval = Math.max(1, number(values, "interval", 2)) * 1000;
    const signal = untilInterrupted();
    let left = number(values, "count", screen ? Number.POSITIVE_INFINITY : 1);
    let before = await look(context.client);
    while (left-- > 0 && !signal.aborted) {
      await sleep(screen ? interval : Math.min(interval, 1000), undefined, { signal }).catch(
        () => {},
      );
      if (signal.aborted) return;
      const now = await look(context.client);
      const loads = loadsOf(before, now);
      if (context.json) context.print(`${JSON.stringify(loads.map(forPrograms), null, 2)}\n`);
      else context.print(`${screen ? "\x1b[H\x1b[J" : ""}${topTable(loads, context)}`);
      before = now;
    }
  },
};

interface Look {
  readonly at: number;
  readonly vms: readonly { readonly vm: VmView; readonly counters: Counters | undefined }[];
}
interface Counters {
  /** Seconds. */
  readonly cpu: number;
  /** Bytes. */
  readonly resident: number;
  readonly disk: number;
  readonly network: number;
}
interface Load {
  readonly vm: VmView;
  /** CPUs of the host that it takes: 1 is one of them, wholly. */
  readonly cpu: number;
  readonly resident: number;
  /** Bytes a second. */
  readonly disk: number;
  readonly network: number;
}

async function look(client: Client): Promise<Look> {
  const all = await allVms(client);
  const vms = await Promise.all(
    all.map(async (vm) => {
      const runs = vm.status.state === "running" || vm.status.state === "paused";
      const found = runs
        ? await statisticsOf(client, vm.uuid).catch(() => undefined) // it may end meanwhile
        : undefined;
      return { vm, counters: found && countersOf(found) };
    }),
  );
  return { at: performance.now(), vms };
}

type Found = Awaited<ReturnType<typeof statisticsOf>>;
const statisticsOf = (client: Client, vm: string) => client.call("getVmStatistics", { vm });

function countersOf({ cpuUser, cpuSystem, residentMemory = 0, devices = {} }: Found): Counters {
  const sum = (...names: readonly string[]): number =>
    Object.values(devices).reduce(
      (total, counts) => names.reduce((all, name) => all + (counts[name] ?? 0), total),
      0,
    );
  return {
    cpu: cpuUser + cpuSystem,
    resident: residentMemory,
    disk: sum("readBytes", "writtenBytes"),
    network: sum("receivedBytes", "sentBytes"),
  };
}

/** The busiest first. */
function loadsOf(before: Look, now: Look): Load[] {
  const seconds = (now.at - before.at) / 1000;
  const loads = now.vms.map(({ vm, counters }): Load => {
    const then = before.vms.find((one) => one.vm.uuid === vm.uuid)?.counters;
    // A VM that was started again counts from zero.
    const rate = (name: "cpu" | "disk" | "network"): number =>
      counters && then ? Math.max(0, counters[name] - then[name]) / seconds : 0;
    const resident = counters?.resident ?? 0;
    return { vm, resident, cpu: rate("cpu"), disk: rate("disk"), network: rate("network") };
  });
  return loads.sort((a, b) => b.cpu - a.cpu || (a.vm.name < b.vm.name ? -1 : 1));
}

const forPrograms = ({ vm, ...load }: Load) => ({
  name: vm.name,
  uuid: vm.uuid,
  state: vm.status.state,
  ...load,
});

const HEAD = ["NAME", "STATE", "CPU", "CPUS", "RESIDENT", "DISK/s", "NETWORK/s"];

const topTable = (loads: readonly Load[], { colour }: Context): string =>
  table(
    HEAD,
    loads.map(({ vm, cpu, resident, disk, network }): Cell[] => [
      { text: vm.name },
      stateCell(vm),
      { text: `${(100 * cpu).toFixed(1)} %` },
      { text: String(vm.definition.cpus) },
      { text: bytes(resident) },
      { text: bytes(Math.round(disk)) },
      { text: bytes(Math.round(network)) },
    ]),
    colour,
  );
