// What a VM costs that does nothing.
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, it } from "vitest";
import { TestDaemon } from "../daemon/daemon.js";
import { LinuxGuest } from "./linux.js";

const MEMORY = 512 * 2 ** 20;
const SETTLE_MS = 10_000;
const WATCH_S = 20;
const TICKS_PER_SECOND = 100; // proc(5): USER_HZ
const KIB = 1024;

let daemon: TestDaemon;
beforeAll(async () => {
  daemon = await TestDaemon.start();
});
afterAll(() => daemon.end());

/** Seconds of CPU of all threads, user and system (proc(5), /proc/PID/stat fields 14 and 15). */
function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "latin1").split(") ")[1]?.split(" ") ?? [];
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

interface Mapping {
  readonly bytes: number;
  readonly privateBytes: number;
  readonly flags: string;
}

function mappings(pid: number): Mapping[] {
  return readFileSync(`/proc/${pid}/smaps`, "latin1")
    .split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m)
    .map((text) => {
      const kib = (name: string): number =>
        Number(new RegExp(`^${name}: +([0-9]+) kB`, "m").exec(text)?.[1] ?? 0);
      return {
        bytes: kib("Size") * KIB,
        privateBytes: (kib("Private_Clean") + kib("Private_Dirty")) * KIB,
        flags: /^VmFlags: (.*)$/m.exec(text)?.[1] ?? "",
      };
    });
}

/** Guest memory is the one mapping of its size that is left out of core files ("dd"). */
const isGuestMemory = ({ bytes, flags }: Mapping): boolean =>
  bytes === MEMORY && flags.split(" ").includes("dd");

it.each([1, 2, 4])("an idle guest with CPUs: %i: under 0.02 cores, under 80 MB", async (cpus) => {
  const guest = await LinuxGuest.boot(daemon, `idle${cpus}`, { cpus, memory: MEMORY });
  const pid = (await guest.view()).status.pid ?? 0;
  await sleep(SETTLE_MS);
  const before = cpuSeconds(pid);
  await sleep(WATCH_S * 1000);
  const share = (100 * (cpuSeconds(pid) - before)) / WATCH_S;
  const all = mappings(pid);
  const own = all.filter((mapping) => !isGuestMemory(mapping));
  const megabytes = own.reduce((sum, { privateBytes }) => sum + privateBytes, 0) / 1e6;
  console.log(`${cpus} CPUs: ${share.toFixed(2)} % of a core, ${megabytes.toFixed(1)} MB private`);
  expect(all.length - own.length).toBe(1);
  expect(share).toBeLessThan(2);
  expect(megabytes).toBeLessThan(80);
  await guest.stop();
});
