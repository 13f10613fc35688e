// The connection through which the daemon governs a VM's process: made again for as long as the
// process lives, and only to the process that is meant (its nonce says so).
import { setTimeout as sleep } from "node:timers/promises";
import { VmError, type VmStatus } from "../../api-schema/index.js";
import { VmConnection, type VmListener } from "./vm-connection.js";

const RECONNECT_MS = 200;

export interface LinkTarget {
  /** For messages. */
  name(): string;
  socket(): string;
  /** Of the process that is meant, while there is one. */
  nonce(): string | undefined;
  /** What the process says of itself. */
  follow(status: VmStatus): void;
}

export class VmLink {
  readonly #target: LinkTarget;
  #connection: VmConnection | undefined;
  /** Grows when the process changes: what belongs to an earlier one ends. */
  #era = 0;

  constructor(target: LinkTarget) {
    this.#target = target;
  }

  get connection(): VmConnection | undefined {
    return this.#connection;
  }

  /** Rejects where nobody answers, or another than the process that is meant. */
  async open(listener: VmListener): Promise<{ connection: VmConnection; pid: number }> {
    const name = this.#target.name();
    const connection = await VmConnection.open(this.#target.socket(), name, listener);
    try {
      const { nonce, pid } = await connection.hello();
      if (nonce === this.#target.nonce()) return { connection, pid };
      throw new VmError("VM_PROCESS_GONE", [name, "another process answers in its place"]);
    } catch (error) {
      connection.close();
      throw error;
    }
  }

  /** One attempt; the status is followed from then on. */
  async connect(): Promise<boolean> {
    const era = this.#era;
    try {
      const { connection } = await this.open({
        stateChanged: (status) => era === this.#era && this.#target.follow(status),
      });
      if (era !== this.#era) {
        connection.close();
        return false;
      }
      this.#connection = connection;
      void connection.closed.then(() => {
        if (this.#connection === connection) this.#connection = undefined;
      });
      return true;
    } catch {
      return false;
    }
  }

  /** Asks for the status; a connection that does not answer is given up. */
  async refresh(): Promise<void> {
    try {
      const answer = await this.#connection?.call("state", {});
      if (answer !== undefined) this.#target.follow(answer.status);
    } catch {
      this.#connection?.close();
      this.#connection = undefined;
    }
  }

  /** Connected, and again when that ends, until drop(). */
  async keep(): Promise<void> {
    const era = this.#era;
    while (era === this.#era) {
      await this.#connection?.closed;
      if (era !== this.#era) return;
      if (await this.connect()) await this.refresh();
      else await sleep(RECONNECT_MS, undefined, { ref: false });
    }
  }

  drop(): void {
    this.#era++;
    this.#connection?.close();
    this.#connection = undefined;
  }
}
