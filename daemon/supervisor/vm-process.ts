// The process of one VM, seen from the daemon: started detached, in a session of its own, its
// standard streams on files, so that it needs nothing of the daemon; and found again by a later
// one. Whoever started it, `exit` says how it ended.
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import { constants } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { isErrorCode, parse, runtimeFiles, StatusFile, VmError } from "../../api-schema/index.js";
import { host } from "../../native/host.js";
import type { ProcessRecord } from "../registry/registry.js";
import type { StatusChange } from "./vm-record.js";

const PROGRAM = fileURLToPath(new URL("../../vmm/process/main.js", import.meta.url));
/** How often a process that is no child of ours is looked at. */
const LOOK_MS = 250;
const PROCESS_LOG = "process.log";

/** How it ended: the last status but for what the daemon alone knows. */
export type VmExit = StatusChange & { readonly state: "stopped" | "failed" };

export interface VmProcess {
  readonly record: ProcessRecord;
  /** Resolves when the process is no more, with why; never after release(). */
  readonly exit: Promise<VmExit>;
  /** SIGKILL to this process, and to no other that got its number. */
  kill(): void;
  /** Forgets the process, which goes on. */
  release(): void;
}

export function spawnVm(known: Omit<ProcessRecord, "pid" | "startTime">): VmProcess {
  const { folder, nonce } = known;
  const child = launch(folder, nonce);
  const exit = new Promise<VmExit>((resolve) => {
    child.once("exit", (code, signal) => resolve(exitOf(folder, nonce, { code, signal })));
    child.once("error", ({ message }) => resolve(internalError(message)));
  });
  child.unref();
  const pid = child.pid ?? 0;
  return {
    record: identify({ ...known, pid }),
    exit,
    kill: () => void child.kill("SIGKILL"),
    release: () => void child.removeAllListeners(),
  };
}

function launch(folder: string, nonce: string): ChildProcess {
  const log = openSync(join(folder, PROCESS_LOG), "a", 0o600);
  try {
    return spawn(process.execPath, [PROGRAM, folder, nonce], {
      detached: true,
      stdio: ["ignore", log, log],
      cwd: "/",
    });
  } finally {
    closeSync(log);
  }
}

/** The process that an earlier daemon started. */
export function adoptVm(record: ProcessRecord): VmProcess {
  let released = false;
  const watch = async (resolve: (exit: VmExit) => void): Promise<void> => {
    while (isAlive(record)) {
      await sleep(LOOK_MS, undefined, { ref: false });
      if (released) return;
    }
    resolve(exitOf(record.folder, record.nonce));
  };
  return {
    record,
    exit: new Promise((resolve) => void watch(resolve)),
    kill: () => void host().signalProcess(record.pid, record.startTime, constants.signals.SIGKILL),
    release: () => {
      released = true;
    },
  };
}

type Known = Omit<ProcessRecord, "startTime">;

/** `pid` 0: there is no process. */
export const identify = (known: Known): ProcessRecord => ({
  ...known,
  startTime: known.pid === 0 ? "" : (host().processStart(known.pid) ?? ""),
});

/** A pid alone proves nothing: it may be another process by now. */
export const isAlive = ({ pid, startTime }: ProcessRecord): boolean =>
  startTime !== "" && host().processStart(pid) === startTime;

interface Ending {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

const internalError = (detail: string): VmExit => ({
  state: "failed",
  reason: "internal error",
  detail,
});

/** What the process wrote as its last state, else what the kernel says of its end. */
export function exitOf(folder: string, nonce: string, ending?: Ending): VmExit {
  const last = lastWords(folder, nonce);
  if (last !== undefined) return last;
  if (ending === undefined) {
    const detail = "its process ended without a word while it was no child of this daemon";
    return { state: "failed", reason: "killed by signal", detail };
  }
  const { code, signal } = ending;
  if (signal === null)
    return internalError(lastLogLine(folder) ?? `its process ended with ${code}`);
  return { state: "failed", reason: "killed by signal", signal, detail: `ended by ${signal}` };
}

function readStatus(folder: string, nonce: string): StatusFile | undefined {
  try {
    const text = readFileSync(join(folder, runtimeFiles.status), "utf8");
    const file = parse(StatusFile, JSON.parse(text));
    return file.nonce === nonce ? file : undefined;
  } catch {
    return undefined; // none was written: the process died before it could
  }
}

function lastWords(folder: string, nonce: string): VmExit | undefined {
  const status = readStatus(folder, nonce)?.status;
  if (status === undefined || (status.state !== "stopped" && status.state !== "failed"))
    return undefined;
  const { generation: _, state, ...rest } = status;
  return { ...rest, state };
}

/** Why a start came to nothing: the process's own error where it could say one. */
export function startFailure(name: string, folder: string, nonce: string, exit: VmExit): VmError {
  const error = readStatus(folder, nonce)?.error;
  if (error !== undefined && isErrorCode(error.code)) return new VmError(error.code, error.details);
  return new VmError("VM_START_FAILED", [name, exit.detail ?? exit.reason ?? "its process ended"]);
}

function lastLogLine(folder: string): string | undefined {
  try {
    return readFileSync(join(folder, PROCESS_LOG), "utf8").trim().split("\n").at(-1) || undefined;
  } catch {
    return undefined;
  }
}
