// VM processes as the host sees them, whatever the daemon says.
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";

/** One that has ended, and that nobody has asked for its status, is not. */
export function isAlive(pid: number): boolean {
  try {
    return /^State:\s[^Z]/m.test(readFileSync(`/proc/${pid}/status`, "latin1"));
  } catch {
    return false;
  }
}

export function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // it has ended
  }
}

/**
 * VM processes whose runtime folder is beneath `run`: by their argument while they start, and by
 * their lock, which is open, when they have taken another title (vmm/process/main.ts).
 */
export function processesIn(run: string): number[] {
  if (process.platform !== "linux") return processesNaming(run);
  const within = (path: string): boolean => path.startsWith(`${run}/`);
  return readdirSync("/proc")
    .filter((name) => /^[0-9]+$/.test(name))
    .filter((pid) => argumentsOf(pid).some(within) || openFiles(pid).some(isLockIn(run)))
    .map(Number);
}

const isLockIn =
  (run: string) =>
  (path: string): boolean =>
    path.startsWith(`${run}/`) && /\/lock( \(deleted\))?$/.test(path);

/** Where there is no /proc. */
function processesNaming(run: string): number[] {
  const lines = execFileSync("/bin/ps", ["-axo", "pid=,command="], { encoding: "utf8" });
  return lines
    .split("\n")
    .flatMap((line) => (line.includes(run) ? [Number.parseInt(line, 10)] : []));
}

/** proc(5): none of a process that has ended. */
function argumentsOf(pid: string): string[] {
  try {
    const [, , folder = ""] = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
    return readlinkSync(`/proc/${pid}/exe`) === "" ? [] : [folder];
  } catch {
    return [];
  }
}

function openFiles(pid: string): string[] {
  const folder = `/proc/${pid}/fd`;
  try {
    return readdirSync(folder).flatMap((fd) => {
      try {
        return [readlinkSync(join(folder, fd))];
      } catch {
        return []; // closed since
      }
    });
  } catch {
    return []; // it has ended, or is another user's
  }
}
