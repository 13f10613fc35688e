// The live side of one VM's console, shared by all who look at it: one connection to the VM
// process, beside the one that controls it, there while somebody looks and the VM runs. It tells
// only that there is more: the output itself is read from the history.
import { setTimeout as sleep } from "node:timers/promises";
import { type TerminalSize, VmError } from "../../api-schema/index.js";
import type { VmConnection, VmListener } from "./vm-connection.js";

const RETRY_MS = 100;
/** How long input waits for a guest that reads none, before it is tried again. */
const FULL_MS = 20;

export interface FeedSource {
  /** Whether a process runs that can be connected to. */
  live(): boolean;
  connect(listener: VmListener): Promise<VmConnection>;
  /** The connection that controls the VM, while there is one: output never gets in its way. */
  control(): VmConnection | undefined;
}

export class ConsoleFeed {
  readonly #source: FeedSource;
  readonly #watchers = new Set<() => void>();
  #connection: VmConnection | undefined;
  #size: TerminalSize | undefined;
  #running = false;
  #telling = false;

  constructor(source: FeedSource) {
    this.#source = source;
  }

  get live(): boolean {
    return this.#source.live();
  }

  /** `more` is called whenever there may be more output, or the VM has started or ended. */
  watch(more: () => void): () => void {
    this.#watchers.add(more);
    this.changed();
    return () => {
      this.#watchers.delete(more);
      if (this.#watchers.size === 0) this.#connection?.close();
    };
  }

  /** The VM's state has changed. */
  changed(): void {
    this.#tell();
    if (this.#wanted() && !this.#running) void this.#run();
  }

  /** For the guest, now and after each start of the VM. */
  resize(size: TerminalSize): void {
    this.#size = size;
    this.#tellSize();
  }

  /** Resolves when the guest's side has taken all of it; rejects when the VM has none or ends. */
  async write(bytes: Buffer): Promise<void> {
    for (let left = bytes; left.length > 0; ) {
      const data = left.toString("base64");
      const answer = await this.#source.control()?.call("consoleWrite", { data });
      left = left.subarray(answer?.accepted ?? 0);
      if (!this.#wanted()) throw new VmError("VM_STATE_FORBIDS", ["off", "be typed to"]);
      if (left.length > 0) await sleep(FULL_MS);
    }
  }

  /** A process of an older release has no ear for it, and one that ends none any more. */
  #tellSize(): void {
    if (this.#size !== undefined)
      this.#connection?.call("consoleResize", this.#size).catch(() => {});
  }

  #wanted(): boolean {
    return this.#watchers.size > 0 && this.#source.live();
  }

  /** Connected, and again when that ends, while it is wanted. */
  async #run(): Promise<void> {
    this.#running = true;
    while (this.#wanted()) {
      try {
        await this.#follow();
      } catch {
        await sleep(RETRY_MS); // it is starting, or ending
      }
    }
    this.#running = false;
    this.#tell();
  }

  async #follow(): Promise<void> {
    const more = (): void => this.#tell();
    const connection = await this.#source.connect({ consoleData: more, consoleDropped: more });
    try {
      await connection.call("consoleFollow", { follow: true });
      this.#connection = connection;
      this.#tellSize();
      this.#tell(); // what came before the connection
      if (this.#wanted()) await connection.closed;
    } finally {
      this.#connection = undefined;
      connection.close();
    }
  }

  /** Once for all that has come in this turn of the event loop. */
  #tell(): void {
    if (this.#telling) return;
    this.#telling = true;
    setImmediate(() => {
      this.#telling = false;
      for (const more of this.#watchers) more();
    });
  }
}
