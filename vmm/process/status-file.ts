// status.json in the runtime folder: what a daemon that was dead at the time reads later. It is
// opened once, since the process may own nothing of the folder by the time it writes, and written in
// place by one system call: spaces cover what is left of a longer text before it, so that whoever
// reads finds whole JSON. A last status is on disk before it counts.
import { closeSync, fsyncSync, openSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import { reasonOf, VmError } from "../../api-schema/errors.js";
import type { StatusFile } from "../../api-schema/vm-process.js";
import type { VmStatus } from "../../api-schema/vm-rpc.js";

const isLast = ({ state }: VmStatus): boolean => state === "stopped" || state === "failed";

export class StatusWriter {
  readonly #path: string;
  readonly #nonce: string;
  readonly #fd: number;
  #longest = 0;

  /** Throws LAUNCH_INVALID where the file cannot be made. */
  constructor(path: string, nonce: string) {
    this.#path = path;
    this.#nonce = nonce;
    try {
      this.#fd = openSync(path, "w", 0o600);
      syncFolder(dirname(path));
    } catch (error) {
      throw new VmError("LAUNCH_INVALID", [path, reasonOf(error)], { cause: error });
    }
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
      this.#replace(Buffer.from(`${JSON.stringify(file)}\n`));
      if (isLast(status)) fsyncSync(this.#fd);
    } catch (failure) {
      process.stderr.write(`${this.#path}: ${reasonOf(failure)}\n`);
    }
  }

  #replace(text: Buffer): void {
    this.#longest = Math.max(this.#longest, text.length);
    writeSync(this.#fd, Buffer.concat([text], this.#longest).fill(" ", text.length), 0, null, 0);
  }
}

function syncFolder(path: string): void {
  const folder = openSync(path, "r");
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}
