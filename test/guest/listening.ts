// Whether somebody listens on a Unix socket of this network namespace, without connecting to it.
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

/** linux/net.h, __SO_ACCEPTCON: in the column of flags of /proc/net/unix (proc_net_unix(5)). */
const LISTENS = 0x10000;

function isListening(path: string): boolean {
  return readFileSync("/proc/net/unix", "utf8")
    .split("\n")
    .some((line) => {
      const [, , , flags = "", , , , name] = line.trim().split(/\s+/);
      return name === path && (Number.parseInt(flags, 16) & LISTENS) !== 0;
    });
}

/** The socket's file is there a moment before anybody listens on it. */
export async function listening(path: string, seconds = 120): Promise<void> {
  const deadline = Date.now() + seconds * 1000;
  while (!isListening(path)) {
    if (Date.now() > deadline) throw new Error(`nobody listens on ${path} after ${seconds} s`);
    await sleep(20);
  }
}
