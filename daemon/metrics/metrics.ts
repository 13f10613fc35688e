// GET /metrics: what the daemon counts of itself, and what each VM's process counts of its guest.
// A VM that does not answer in time is shown as not up, and holds nobody up.
import { performance } from "node:perf_hooks";
import type { Logger } from "pino";
import { vmPowers } from "../../api-schema/daemon-api.js";
import type { VmResult, VmView } from "../../api-schema/index.js";
import type { EventLog } from "../events/event-log.js";
import type { Operations } from "../operations/operations.js";
import { isOff } from "../supervisor/admission.js";
import type { Supervisor } from "../supervisor/supervisor.js";
import { exposition, type Family, type Labels } from "./exposition.js";

const ANSWER_MS = 1_000;

export interface MetricsParts {
  readonly supervisor: Supervisor;
  readonly events: EventLog;
  readonly operations: Operations;
  readonly version: string;
  readonly log: Logger;
}

type Statistics = VmResult<"statistics">;

interface Measured {
  readonly labels: Labels;
  readonly view: VmView;
  readonly statistics: Statistics | undefined;
}

export async function metricsText(parts: MetricsParts): Promise<string> {
  const vms = await Promise.all(
    parts.supervisor.list().map(async (driver): Promise<Measured> => {
      const view = driver.view();
      const labels = { vm: view.name, uuid: view.uuid };
      return { labels, view, statistics: await measure(parts, view) };
    }),
  );
  return exposition([...daemonFamilies(parts, vms), ...vmFamilies(vms)]);
}

async function measure(
  { supervisor }: MetricsParts,
  view: VmView,
): Promise<Statistics | undefined> {
  if (isOff(view.status.state)) return undefined;
  try {
    const connection = supervisor.find(view.uuid).connection("be measured");
    return await connection.call("statistics", {}, ANSWER_MS);
  } catch {
    return undefined;
  }
}

function daemonFamilies(parts: MetricsParts, vms: readonly Measured[]): Family[] {
  const { user, system } = process.cpuUsage();
  const running = parts.operations.list().filter(({ state }) => state === "running").length;
  const one = (value: number): Family["samples"] => [[{}, value]];
  return [
    {
      name: "xhyved_build_info",
      type: "gauge",
      help: "1, with the daemon's version.",
      samples: [[{ version: parts.version, node: process.version }, 1]],
    },
    {
      name: "process_cpu_seconds_total",
      type: "counter",
      help: "CPU time of the daemon, user and system.",
      samples: one((user + system) / 1e6),
    },
    {
      name: "process_resident_memory_bytes",
      type: "gauge",
      help: "Memory of the daemon that is in RAM.",
      samples: one(process.memoryUsage.rss()),
    },
    {
      name: "process_start_time_seconds",
      type: "gauge",
      help: "When the daemon was started, since 1970.",
      samples: one(performance.timeOrigin / 1000),
    },
    {
      name: "xhyved_vms",
      type: "gauge",
      help: "VMs by state.",
      samples: vmPowers.map((state) => [
        { state },
        vms.filter(({ view }) => view.status.state === state).length,
      ]),
    },
    {
      name: "xhyved_events_total",
      type: "counter",
      help: "Events ever.",
      samples: one(parts.events.last),
    },
    {
      name: "xhyved_operations_running",
      type: "gauge",
      help: "Long operations under way.",
      samples: one(running),
    },
  ];
}

type Values = (measured: Measured) => readonly (readonly [Labels, number | undefined])[];

interface VmFamily extends Omit<Family, "samples"> {
  readonly values: Values;
}

const plain =
  (value: (measured: Measured) => number | undefined): Values =>
  (measured) => [[{}, value(measured)]];

/** One counter of every device that has it. */
const device =
  (counter: string): Values =>
  ({ statistics }) =>
    Object.entries(statistics?.devices ?? {}).map(([name, counters]) => [
      { device: name },
      counters[counter],
    ]);

/** One counter of every vCPU. */
const vcpu =
  (counter: string): Values =>
  ({ statistics }) =>
    (statistics?.vcpus ?? []).map((counters, index) => [
      { vcpu: String(index) },
      counters[counter],
    ]);

const EXITS: Readonly<Record<string, string>> = {
  port: "portAccesses",
  mmio: "mmioAccesses",
  halt: "halts",
  interrupt: "interrupts",
  exception: "exceptions",
};

const exits: Values = ({ statistics }) =>
  (statistics?.vcpus ?? []).flatMap((counters, index) =>
    Object.entries(EXITS).map(
      ([kind, counter]) => [{ vcpu: String(index), kind }, counters[counter]] as const,
    ),
  );

const counter = (name: string, help: string, values: Values): VmFamily => ({
  name: `xhyved_vm_${name}_total`,
  type: "counter",
  help,
  values,
});
const gauge = (name: string, help: string, values: Values): VmFamily => ({
  name: `xhyved_vm_${name}`,
  type: "gauge",
  help,
  values,
});

const FAMILIES: readonly VmFamily[] = [
  gauge(
    "up",
    "1 while the VM runs and its process answers.",
    plain(({ statistics }) => (statistics === undefined ? 0 : 1)),
  ),
  gauge(
    "ready",
    "1 while all readiness probes hold; absent where there are none.",
    plain(({ view }) => (view.status.ready === undefined ? undefined : Number(view.status.ready))),
  ),
  gauge(
    "start_time_seconds",
    "When this run began, since 1970.",
    plain(
      ({ view: { status } }) => (status.started && Date.parse(status.started) / 1000) || undefined,
    ),
  ),
  gauge(
    "vcpus",
    "CPUs of the guest.",
    plain(({ view }) => view.definition.cpus),
  ),
  gauge(
    "memory_bytes",
    "RAM of the guest.",
    plain(({ view }) => view.definition.memory),
  ),
  gauge(
    "resident_memory_bytes",
    "Memory of the VM's process that is in RAM, the guest's included.",
    plain(({ statistics }) => statistics?.residentMemory),
  ),
  gauge(
    "crash_loop",
    "1 where the restart policy has given up.",
    plain(({ view }) => (view.status.crashLoop === true ? 1 : 0)),
  ),
  gauge(
    "restarts",
    "Starts by the restart policy since a client's own.",
    plain(({ view }) => view.status.restarts),
  ),
  gauge(
    "resets",
    "Resets since the start.",
    plain(({ view }) => view.status.resets),
  ),
  counter("cpu_seconds", "CPU time of the VM's process.", ({ statistics }) => [
    [{ mode: "user" }, statistics?.cpuUser],
    [{ mode: "system" }, statistics?.cpuSystem],
  ]),
  counter(
    "guest_seconds",
    "Time of the guest's clock.",
    plain((one) => one.statistics?.guestTime),
  ),
  counter("exits", "Times a vCPU left guest code, by what for.", exits),
  counter("instructions", "Instructions, where the accelerator counts them.", vcpu("instructions")),
  counter("page_faults", "Page faults of the guest.", vcpu("pageFaults")),
  counter("tlb_misses", "Misses of the software TLB.", vcpu("tlbMisses")),
  counter("disk_read_operations", "Reads by the guest.", device("readOperations")),
  counter("disk_read_bytes", "Bytes that the guest read.", device("readBytes")),
  counter("disk_write_operations", "Writes by the guest.", device("writeOperations")),
  counter("disk_written_bytes", "Bytes that the guest wrote.", device("writeBytes")),
  counter("disk_flushes", "Flushes by the guest.", device("flushes")),
  counter("disk_errors", "Disk requests that failed.", device("errors")),
  counter("network_receive_frames", "Frames to the guest.", device("received")),
  counter("network_receive_bytes", "Bytes to the guest.", device("receivedBytes")),
  counter("network_receive_dropped", "Frames the guest had no room for.", device("receiveDropped")),
  counter("network_transmit_frames", "Frames from the guest.", device("sent")),
  counter("network_transmit_bytes", "Bytes from the guest.", device("sentBytes")),
  counter("network_transmit_dropped", "Frames the host did not take.", device("sendDropped")),
];

const vmFamilies = (vms: readonly Measured[]): Family[] =>
  FAMILIES.map(({ values, ...family }) => ({
    ...family,
    samples: vms.flatMap((measured) =>
      values(measured).flatMap(([labels, value]): Family["samples"] =>
        value === undefined ? [] : [[{ ...measured.labels, ...labels }, value]],
      ),
    ),
  }));
