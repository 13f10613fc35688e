// Starts a VM's process and learns how it ended: detached, in a session of its own, its standard
// streams on files, so that it needs nothing of the daemon.
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, existsSync, openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import {
  parse,
  runtimeFiles,
  StatusFile,
  VmError,
  type VmStatusView,
} from "../../api-schema/index.js";
import { host } from "../../native/host.js";
import type { ProcessRecord } from "../registry/registry.js";

const PROGRAM = fileURLToPath(new URL("../../vmm/process/main.js", import.meta.url));
const READY_TIMEOUT_MS = 20_000;
const POLL_MS = 5;
const GONE_TIMEOUT_MS = 5_000;

export type VmExit = Omit<VmStatusView, "generation" | "resets" | "pid"> & { resets?: number };

export interface VmChild {
  readonly record: ProcessRecord;
  /** SIGKILL; resolves when the process is no more. */
  kill(): Promise<void>;
  /** Forgets the process, which goes on. */
  release(): void;
}

/** Resolves once the process listens on its socket; rejects with its own words when it ended. */
export async function spawnVm(
  folder: string,
  nonce: string,
  onExit: (exit: VmExit) => void,
): Promise<VmChild> {
  const log = openSync(join(folder, "process.log"), "a", 0o600);
  let child: ChildProcess;
  try {
    child = spawn(process.execPath, [PROGRAM, folder], {
      detached: true,
      stdio: ["ignore", log, log],
      cwd: "/",
    });
  } finally {
    closeSync(log);
  }
  let exit: VmExit | undefined;
  let listening = false;
  const ended = new Promise<void>((resolve) => {
    const finish = (code: number | null, signal: string | null): void => {
      exit = exitOf(folder, nonce, code, signal);
      if (listening) onExit(exit);
      resolve();
    };
    child.once("exit", finish);
    child.once("error", () => finish(null, null));
  });
  child.unref();
  await untilListening(folder, () => exit);
  listening = true;
  const pid = child.pid ?? 0;
  return {
    record: { nonce, pid, startTime: host().processStart(pid) ?? "", folder },
    async kill() {
      listening = false;
      child.kill("SIGKILL");
      await ended;
    },
    release() {
      listening = false;
    },
  };
}

async function untilListening(folder: string, ended: () => VmExit | undefined): Promise<void> {
  const deadline = Date.now() + READY_TIMEOUT_MS;
  while (!existsSync(join(folder, runtimeFiles.socket))) {
    const exit = ended();
    if (exit !== undefined)
      throw new VmError("VM_START_FAILED", [folder, startFailure(folder, exit)]);
    if (Date.now() > deadline) throw new VmError("VM_START_FAILED", [folder, "it does not answer"]);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

function startFailure(folder: string, exit: VmExit): string {
  const log = join(folder, "process.log");
  const lines = existsSync(log) ? readFileSync(log, "utf8").trim().split("\n") : [];
  return exit.detail ?? lines.at(-1) ?? "its process ended";
}

/** What the process wrote as its last state, else what the kernel says of its end. */
function exitOf(folder: string, nonce: string, code: number | null, signal: string | null): VmExit {
  const last = lastWords(folder, nonce);
  if (last !== undefined) return last;
  if (signal !== null)
    return { state: "failed", reason: "killed by signal", signal, detail: `ended by ${signal}` };
  return { state: "failed", reason: "internal error", detail: `its process ended with ${code}` };
}

function lastWords(folder: string, nonce: string): VmExit | undefined {
  try {
    const file = parse(
      StatusFile,
      JSON.parse(readFileSync(join(folder, runtimeFiles.status), "utf8")),
    );
    const { state, reason, exitStatus, detail, resets } = file.status;
    if (file.nonce !== nonce || (state !== "stopped" && state !== "failed")) return undefined;
    return {
      state,
      resets,
      ...(reason === undefined ? {} : { reason }),
      ...(exitStatus === undefined ? {} : { exitStatus }),
      ...(detail === undefined ? {} : { detail }),
    };
  } catch {
    return undefined; // none was written: the process died before it could
  }
}

/** For a process that is no child of this daemon. */
export async function exitOfUnwatched(folder: string, record: ProcessRecord): Promise<VmExit> {
  const deadline = Date.now() + GONE_TIMEOUT_MS;
  while (host().processStart(record.pid) === record.startTime && Date.now() < deadline)
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  return (
    lastWords(folder, record.nonce) ?? {
      state: "failed",
      reason: "killed by signal",
      detail: "its process ended without a word while no daemon was its parent",
    }
  );
}
