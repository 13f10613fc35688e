// A file whose requests outlast a full host: what finds no room waits and is tried again until
// there is some. Nothing is lost meanwhile, and whoever made the file hears of it.
import { constants } from "node:os";
import type { Clock, FileOperation, HostFile, Timer } from "../../native/types.js";
import type { BlockDone } from "./backend.js";

const { ENOSPC, EDQUOT } = constants.errno;
const RETRY_AFTER = 1_000_000_000n;

export interface PatientFileOptions {
  readonly file: HostFile;
  readonly clock: Clock;
  /** Told when requests begin to wait for room on the host, and when none waits any more. */
  readonly onStall?: ((stalled: boolean) => void) | undefined;
}

interface Request {
  readonly operation: FileOperation;
  readonly offset: number;
  readonly length: number;
  readonly pieces: readonly number[];
  readonly done: BlockDone;
}

export class PatientFile {
  readonly #file: HostFile;
  readonly #clock: Clock;
  readonly #timer: Timer;
  readonly #onStall: (stalled: boolean) => void;
  readonly #waiting: Request[] = [];
  #retrying = 0;
  #underway = 0;
  #idle: (() => void)[] = [];
  #stalled = false;

  constructor({ file, clock, onStall = () => {} }: PatientFileOptions) {
    this.#file = file;
    this.#clock = clock;
    this.#onStall = onStall;
    this.#timer = clock.timer(() => this.#retry());
  }

  /** As HostFile.submit(), without ENOSPC and EDQUOT. */
  submit(
    operation: FileOperation,
    offset: number,
    length: number,
    pieces: readonly number[],
    done: BlockDone,
  ): void {
    this.#submit({ operation, offset, length, pieces, done }, false);
  }

  cancel(): void {
    this.#file.cancel();
    this.#waiting.length = 0;
    this.#retrying = 0;
    this.#timer.cancel();
    this.#underway = 0;
    this.#settle();
  }

  /** Nothing is under way but what waits for room. */
  get quiet(): boolean {
    return this.#underway === 0;
  }
  /** Resolves when it is quiet. */
  idle(): Promise<void> {
    if (this.#underway === 0) return Promise.resolve();
    return new Promise((resolve) => this.#idle.push(resolve));
  }

  close(): void {
    this.cancel();
    this.#file.close();
  }

  #submit(request: Request, again: boolean): void {
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
