// status.json in the runtime folder: what a daemon that was dead at the time reads later. Replaced
// by rename, so a reader sees the old or the new one; a last status is on disk before it counts.
import { closeSync, fsyncSync, openSync, renameSync, writeFileSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import { reasonOf, type VmError } from "../../api-schema/errors.js";
import type { StatusFile } from "../../api-schema/vm-process.js";
import type { VmStatus } from "../../api-schema/vm-rpc.js";

const isLast = ({ state }: VmStatus): boolean => state === "stopped" || state === "failed";

export class StatusWriter {
  readonly #path: string;
  readonly #nonce: string;

  constructor(path: string, nonce: string) {
    this.#path = path;
    this.#nonce = nonce;
  }

  /** A full disk is told and does not end the VM. */
  write(status: VmStatus, error?: VmError): void {
    const file: StatusFile = {
      nonce: this.#nonce,
      pid: process.pid,
      time: Date.now(),
      status,
      ...(error === undefined ? {} : { error: { code: error.code, details: [...error.details] } }),
    };
    try {
      replace(this.#path, `${JSON.stringify(file)}\n`, isLast(status));
    } catch (error) {
      process.stderr.write(`${this.#path}: ${reasonOf(error)}\n`);
    }
  }
}

function replace(path: string, text: string, durable: boolean): void {
  const unfinished = `${path}.new`;
  if (!durable) {
    writeFileSync(unfinished, text, { mode: 0o600 });
    renameSync(unfinished, path);
    return;
  }
  const fd = openSync(unfinished, "w", 0o600);
  try {
    writeSync(fd, text);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  renameSync(unfinished, path);
  const folder = openSync(dirname(path), "r");
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}
