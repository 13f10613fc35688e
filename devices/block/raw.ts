// A raw image: the file's bytes are the disk's. Where the host has no room for a write, the write
// waits and is tried again until there is; the disk says so meanwhile, and nothing is lost.
import { constants } from "node:os";
import type { Clock, FileOperation, HostFile, Timer } from "../../native/types.js";
import type { BlockBackend, BlockDone, BlockGeometry } from "./backend.js";

const { ENOSPC, EDQUOT } = constants.errno;
const RETRY_AFTER = 1_000_000_000n;

export interface RawOptions {
  readonly file: HostFile;
  readonly geometry: BlockGeometry;
  readonly clock: Clock;
  /** Told when writes begin to wait for room on the host, and when none waits any more. */
  readonly onStall?: (stalled: boolean) => void;
}

interface Request {
  readonly operation: FileOperation;
  readonly offset: number;
  readonly length: number;
  readonly pieces: readonly number[];
  readonly done: BlockDone;
}

export class RawBackend implements BlockBackend {
  readonly geometry: BlockGeometry;
  readonly #file: HostFile;
  readonly #clock: Clock;
  readonly #timer: Timer;
  readonly #onStall: (stalled: boolean) => void;
  readonly #waiting: Request[] = [];
  #retrying = 0;
  #underway = 0;
  #idle: (() => void)[] = [];
  #stalled = false;

  constructor({ file, geometry, clock, onStall = () => {} }: RawOptions) {
    this.geometry = geometry;
    this.#file = file;
    this.#clock = clock;
    this.#onStall = onStall;
    this.#timer = clock.timer(() => this.#retry());
  }

  read(offset: number, length: number, pieces: readonly number[], done: BlockDone): void {
    this.#submit({ operation: "read", offset, length, pieces, done });
  }
  write(offset: number, length: number, pieces: readonly number[], done: BlockDone): void {
    this.#submit({ operation: "write", offset, length, pieces, done });
  }
  flush(done: BlockDone): void {
    this.#submit({ operation: "sync", offset: 0, length: 0, pieces: [], done });
  }
  discard(offset: number, length: number, done: BlockDone): void {
    this.#submit({ operation: "discard", offset, length, pieces: [], done });
  }
  writeZeroes(offset: number, length: number, unmap: boolean, done: BlockDone): void {
    this.#submit({ operation: unmap ? "unmap" : "zero", offset, length, pieces: [], done });
  }

  cancel(): void {
    this.#file.cancel();
    this.#waiting.length = 0;
    this.#retrying = 0;
    this.#timer.cancel();
    this.#underway = 0;
    this.#settle();
  }

  idle(): Promise<void> {
    if (this.#underway === 0) return Promise.resolve();
    return new Promise((resolve) => this.#idle.push(resolve));
  }

  close(): void {
    this.cancel();
    this.#file.close();
  }

  #submit(request: Request, again = false): void {
    this.#underway++;
    const { operation, offset, length, pieces } = request;
    this.#file.submit(operation, offset, length, pieces, (errno) => {
      this.#underway--;
      if (again) this.#retrying--;
      if (errno === ENOSPC || errno === EDQUOT) this.#wait(request);
      else request.done(errno);
      this.#settle();
    });
  }

  #wait(request: Request): void {
    this.#waiting.push(request);
    this.#timer.arm(this.#clock.now() + RETRY_AFTER);
  }

  #retry(): void {
    const requests = this.#waiting.splice(0);
    this.#retrying += requests.length;
    for (const request of requests) this.#submit(request, true);
  }

  #settle(): void {
    const stalled = this.#waiting.length + this.#retrying > 0;
    if (stalled !== this.#stalled) {
      this.#stalled = stalled;
      this.#onStall(stalled);
    }
    if (this.#underway > 0) return;
    for (const resolve of this.#idle.splice(0)) resolve();
  }
}
