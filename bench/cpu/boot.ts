// Boots, from the start of the process to the first line of user space: CPU seconds, instructions and
// private memory.
import { mkdtempSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { BenchOptions } from "../bench.js";
import { type Contender, READY, waitFor } from "../contender.js";
import { cpuSeconds, type Mapping, mappings } from "../processes.js";
import { alternate, median } from "../statistics.js";
import { type GuestOptions, MEMORY, ours, qemu } from "./contenders.js";

export interface Boot {
  readonly cpu: number;
  readonly wall: number;
  readonly memory: Memory;
  /** Retired by the guest, where the contender can tell. */
  readonly instructions?: number;
}

/** Bytes that are private to the process, guest memory left out. */
export interface Memory {
  readonly total: number;
  readonly parts: Readonly<Record<string, number>>;
}

export interface Boots {
  readonly ours: readonly Boot[];
  readonly qemu: readonly Boot[];
  readonly qemuInstructions: number | undefined;
}

/** Only guest memory is this large and of this size, give or take the huge page it is aligned to. */
const isGuestMemory = ({ bytes }: Mapping): boolean => bytes >= MEMORY && bytes < MEMORY * 1.1;

/** Ours is a file of nobody else's, mapped once to write and once to run. */
const CODE = "code cache";

function partOf({ name }: Mapping): string {
  if (name.includes("memfd:translated code")) return CODE;
  if (name === "[heap]") return "heap";
  if (name.startsWith("[stack")) return "stacks";
  if (name.startsWith("/") && !name.startsWith("/memfd")) return "programs and libraries";
  return "anonymous";
}

function memoryOf(pid: number): Memory {
  const parts: Record<string, number> = {};
  let total = 0;
  for (const mapping of mappings(pid).filter((each) => !isGuestMemory(each))) {
    const part = partOf(mapping);
    const bytes = part === CODE ? mapping.proportionalBytes : mapping.privateBytes;
    parts[part] = (parts[part] ?? 0) + bytes;
    total += bytes;
  }
  return { total, parts };
}

async function observe(start: () => Promise<Contender>): Promise<[Contender, Boot]> {
  const began = process.hrtime.bigint();
  const contender = await start();
  await waitFor(contender, new RegExp(READY));
  const cpu = cpuSeconds(contender.pid);
  const wall = Number(process.hrtime.bigint() - began) / 1e9;
  return [contender, { cpu, wall, memory: memoryOf(contender.pid) }];
}

async function bootOurs(options: GuestOptions, folder: string): Promise<Boot> {
  let vm: Awaited<ReturnType<typeof ours>>["vm"] | undefined;
  const [contender, boot] = await observe(async () => {
    const started = await ours(options, folder);
    vm = started.vm;
    return started;
  });
  const vcpus = (await vm?.connection.call("statistics", {}))?.vcpus ?? [];
  const instructions = vcpus.reduce((sum, counters) => sum + (counters.instructions ?? 0), 0);
  await contender.end();
  return { ...boot, instructions };
}

async function bootQemu(options: GuestOptions): Promise<Boot> {
  const [contender, boot] = await observe(async () => qemu(options));
  await contender.end();
  return boot;
}

/** Another boot, with QEMU's record of execution switched on: that mode counts instructions. */
async function countQemu(options: GuestOptions, folder: string): Promise<number | undefined> {
  if (options.cpus !== 1) return undefined; // it is for one thread alone
  const socket = join(folder, "qmp");
  const contender = qemu(options, [
    ...["-accel", "tcg", "-icount", `shift=0,rr=record,rrfile=${join(folder, "record")}`],
    ...["-qmp", `unix:${socket},server=on,wait=off`],
  ]);
  try {
    await waitFor(contender, new RegExp(READY));
    return await queryReplay(socket);
  } finally {
    await contender.end();
  }
}

/** QEMU QMP Reference Manual, query-replay. */
function queryReplay(socket: string): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    const client = connect(socket);
    let seen = "";
    client.on("error", reject);
    client.on("data", (chunk) => {
      seen += String(chunk);
      const icount = /"icount": (\d+)/.exec(seen)?.[1];
      if (icount === undefined && !seen.includes('"error"')) return;
      client.destroy();
      resolve(icount === undefined ? undefined : Number(icount));
    });
    client.write('{"execute":"qmp_capabilities"}{"execute":"query-replay"}');
  });
}

export async function measureBoots(
  options: GuestOptions,
  { count, progress }: BenchOptions,
): Promise<Boots> {
  progress(`  boots with ${options.cpus} CPU${options.cpus === 1 ? "" : "s"}`);
  const folder = mkdtempSync(join(tmpdir(), "bench-"));
  const result = { ours: [] as Boot[], qemu: [] as Boot[] };
  try {
    await alternate(count, ["ours", "qemu"] as const, async (name, round) => {
      const run = join(folder, `${round}`);
      result[name].push(name === "ours" ? await bootOurs(options, run) : await bootQemu(options));
    });
    return { ...result, qemuInstructions: await countQemu(options, folder) };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

export const medianMemory = (boots: readonly Boot[]): number =>
  median(boots.map(({ memory }) => memory.total));
