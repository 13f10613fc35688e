// What a daemon finds of VM processes that an earlier one started. The truth is the lock in the
// runtime folder, which a process holds while it lives, whatever was or was not written down.
import { closeSync, existsSync, openSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { constants } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { runtimeFiles } from "../../api-schema/index.js";
import { host } from "../../native/host.js";
import type { ProcessRecord } from "../registry/registry.js";
import { identify, isAlive } from "./vm-process.js";

/** A process writes its pid at once after it has the lock. */
const PID_TIMEOUT_MS = 5_000;
const POLL_MS = 5;

export interface Survivor {
  readonly record: ProcessRecord;
  /** What it was started with, as another release may have written it. */
  readonly definition: unknown;
}

/**
 * The process that lives in this folder. Where none does, none will: one that was being started
 * when the daemon died finds the folder without its launch file, and ends.
 */
export async function survivorIn(
  folder: string,
  known: ProcessRecord | undefined,
): Promise<Survivor | undefined> {
  const path = join(folder, runtimeFiles.lock);
  for (let waited = 0; existsSync(folder) && waited < PID_TIMEOUT_MS; waited += POLL_MS) {
    if (fence(folder, path)) break;
    const survivor = identified(folder, path, known);
    if (survivor !== undefined) return survivor;
    await sleep(POLL_MS);
  }
  if (known !== undefined && known.pid !== 0 && isAlive(known)) endUnborn(known);
  return undefined;
}

/** False where a process holds the lock. */
function fence(folder: string, lock: string): boolean {
  const fd = openSync(lock, "a+", 0o600);
  try {
    if (!host().lockFile(fd)) return false;
    rmSync(join(folder, runtimeFiles.launch), { force: true });
    return true;
  } finally {
    closeSync(fd);
  }
}

/** It has no lock yet, or none any more. */
const endUnborn = ({ pid, startTime }: ProcessRecord): boolean =>
  host().signalProcess(pid, startTime, constants.signals.SIGKILL);

/** undefined: the one who holds the lock has not written its pid yet, or is just gone. */
function identified(
  folder: string,
  lock: string,
  known: ProcessRecord | undefined,
): Survivor | undefined {
  try {
    const pid = Number(readFileSync(lock, "latin1").trim() || "0");
    const launch = launchIn(folder);
    if (!Number.isSafeInteger(pid) || pid <= 1 || launch === undefined) return undefined;
    const { nonce, definition } = launch;
    const more = known?.nonce === nonce ? known : {};
    const record = identify({ ...more, nonce, folder, pid });
    return isAlive(record) ? { record, definition } : undefined;
  } catch {
    return undefined;
  }
}

function launchIn(folder: string): { nonce: string; definition: unknown } | undefined {
  const text = readFileSync(join(folder, runtimeFiles.launch), "utf8");
  const { nonce, definition } = JSON.parse(text) as { nonce?: unknown; definition?: unknown };
  return typeof nonce === "string" ? { nonce, definition } : undefined;
}

/** UUIDs (with hyphens, in lower case) that have a runtime folder. */
export function runtimeFolders(parent: string): string[] {
  let names: string[] = [];
  try {
    names = readdirSync(parent);
  } catch {
    return [];
  }
  return names
    .filter((name) => /^[0-9a-f]{32}$/.test(name))
    .map((name) => name.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5"));
}
