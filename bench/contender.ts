// A program in a place of its own: a process that is measured, answers lines, and prints what it has
// to say. How it is spoken to is the same for all of them.
import type { ChildProcess } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { readConsoleLog } from "../api-schema/console-log.js";
import type { VmProcess } from "../test/guest/vm-process.js";

export const READY = "bench: ready";
const ANSWER_S = 300;
const POLL_MS = 5;
const MIB = 2 ** 20;

export interface Contender {
  readonly name: string;
  readonly pid: number;
  /** All output so far. */
  output(): string;
  /** It has ended by itself. */
  ended(): boolean;
  type(text: string): void;
  end(): Promise<void>;
}

/** Polls: what happens within the process that is measured is the same either way. */
export async function waitFor(contender: Contender, pattern: RegExp): Promise<RegExpExecArray> {
  const deadline = Date.now() + ANSWER_S * 1000;
  for (;;) {
    const found = pattern.exec(contender.output());
    if (found !== null) return found;
    if (contender.ended() || Date.now() > deadline)
      throw new Error(`${contender.name}: no ${pattern} in ${contender.output().slice(-400)}`);
    await sleep(POLL_MS);
  }
}

export function overPipes(name: string, child: ChildProcess): Contender {
  let seen = "";
  child.stdout?.on("data", (chunk) => {
    seen += String(chunk);
  });
  const gone = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  return {
    name,
    pid: child.pid ?? 0,
    output: () => seen,
    ended: () => child.exitCode !== null,
    type: (text) => void child.stdin?.write(text),
    async end() {
      child.kill("SIGKILL");
      await gone;
    },
  };
}

/** A VM of ours that has been started, whose console log is at `console`. */
export function overConsole(vm: VmProcess, console: string): Contender {
  let seen = "";
  let offset = 0;
  return {
    name: "ours",
    pid: vm.pid,
    output() {
      const read = readConsoleLog(console, offset, MIB);
      seen += Buffer.from(read.bytes).toString("latin1");
      offset = read.offset + read.bytes.length;
      return seen;
    },
    ended: () => false,
    type: (text) => void vm.type(text).catch(() => undefined),
    end: () => vm.end(),
  };
}
