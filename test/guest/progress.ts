// One line of progress on a terminal; on anything else a line when a step begins and when it ends.
import type { WriteStream } from "node:tty";

const WIDTH = 28;

export interface Progress {
  /** done and total in the same unit; total 0: how much there is to do is not known yet. */
  update(done: number, total: number): void;
  finish(summary: string): void;
}

const bar = (share: number): string => {
  const filled = Math.round(share * WIDTH);
  return `[${"#".repeat(filled)}${"-".repeat(WIDTH - filled)}]`;
};

const mib = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`;

export function startProgress(label: string, out: NodeJS.WriteStream = process.stderr): Progress {
  const terminal = (out as WriteStream).isTTY === true;
  if (!terminal) out.write(`${label} …\n`);
  const rewrite = (text: string): void => {
    if (terminal) out.write(`\r\x1b[2K${label} ${text}`);
  };
  return {
    update(done, total) {
      const share = total > 0 ? Math.min(1, done / total) : 0;
      rewrite(`${bar(share)} ${mib(done)}${total > 0 ? ` of ${mib(total)}` : ""}`);
    },
    finish(summary) {
      if (terminal) rewrite(`${summary}\n`);
      else out.write(`${label}: ${summary}\n`);
    },
  };
}
