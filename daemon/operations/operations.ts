// Long work as objects: each is written down before it begins, so that a daemon that dies on the
// way begins it again (or says that it cannot), and can be looked at, waited for and cancelled.
import { randomUUID } from "node:crypto";
import type { Logger } from "pino";
import { asVmError, type LongOperation, VmError } from "../../api-schema/index.js";
import type { EventLog } from "../events/event-log.js";
import type { Database } from "../registry/database.js";

/** Of those that have ended. */
const KEPT = 500;
/** Progress is stored and told no more often. */
const PROGRESS_MS = 500;

type Result = Readonly<Record<string, unknown>>;

export interface OperationContext {
  /** The operation's, for names of unfinished files. */
  readonly id: string;
  /** Aborted when the operation is cancelled, or the daemon ends. */
  readonly signal: AbortSignal;
  /** When it was first begun: milliseconds since 1970. */
  readonly created: number;
  progress(done: number, total: number): void;
}

/** A kind of long work. `run` may be called again with the same input after a sudden end. */
export interface OperationKind<Input extends object> {
  readonly unit: LongOperation["progress"]["unit"];
  /** Undoes what was done where it fails or is cancelled; throws what the client is told. */
  run(input: Input, context: OperationContext): Promise<Result>;
}

interface Running {
  readonly abort: AbortController;
  readonly done: Promise<void>;
}

interface StoredOperation {
  readonly operation: string;
  readonly input: string;
}

export class Operations {
  readonly #db: Database;
  readonly #events: EventLog;
  readonly #log: Logger;
  readonly #kinds = new Map<string, OperationKind<object>>();
  readonly #running = new Map<string, Running>();
  #released = false;

  constructor({ db, events, log }: { db: Database; events: EventLog; log: Logger }) {
    this.#db = db;
    this.#events = events;
    this.#log = log;
  }

  define<Input extends object>(name: string, kind: OperationKind<Input>): void {
    this.#kinds.set(name, kind as unknown as OperationKind<object>);
  }

  /** On the disk when it returns; the work begins then. */
  start(name: string, input: object, vm?: string): LongOperation {
    const kind = this.#kinds.get(name);
    if (kind === undefined) throw new Error(`there is no kind of operation ${name}`);
    const operation: LongOperation = {
      id: randomUUID(),
      kind: name,
      state: "running",
      ...(vm !== undefined && { vm }),
      progress: { done: 0, total: 0, unit: kind.unit },
      created: new Date().toISOString(),
    };
    this.#db.commit(() => {
      this.#db
        .statement(
          "INSERT INTO operations (id, running, created, operation, input) VALUES (?,1,?,?,?)",
        )
        .run(operation.id, Date.now(), JSON.stringify(operation), JSON.stringify(input));
      this.#events.append("operation", operation);
    });
    this.#begin(operation, kind, input);
    return operation;
  }

  /** Begins again what an earlier daemon did not bring to an end. */
  resume(): void {
    for (const { operation: text, input } of this.#unfinished()) {
      const operation = JSON.parse(text) as LongOperation;
      const kind = this.#kinds.get(operation.kind);
      if (kind !== undefined) this.#begin(operation, kind, JSON.parse(input) as object);
      else this.#fail(operation, new VmError("OPERATION_INTERRUPTED", [operation.kind]));
    }
  }

  /** Whether one of this kind is under way, or will be after resume(). */
  isUnderWay(name: string): boolean {
    return this.#unfinished().some(
      ({ operation }) => (JSON.parse(operation) as LongOperation).kind === name,
    );
  }

  /** The newest first. */
  list(): LongOperation[] {
    const rows = this.#db
      .statement("SELECT operation FROM operations ORDER BY created DESC, rowid DESC")
      .pluck()
      .all() as string[];
    return rows.map((text) => JSON.parse(text) as LongOperation);
  }

  /** Throws OPERATION_NOT_FOUND. */
  get(id: string): LongOperation {
    const sql = "SELECT operation FROM operations WHERE id = ?";
    const text = this.#db.statement(sql).pluck().get(id);
    if (text === undefined) throw new VmError("OPERATION_NOT_FOUND", [id]);
    return JSON.parse(text as string) as LongOperation;
  }

  /** Resolves when it has ended, or the time is over. */
  async wait(id: string, seconds: number, signal?: AbortSignal): Promise<LongOperation> {
    const running = this.#running.get(id);
    if (running !== undefined && seconds > 0)
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, seconds * 1000);
        signal?.addEventListener("abort", () => resolve(), { once: true });
        void running.done.then(resolve).finally(() => clearTimeout(timer));
      });
    return this.get(id);
  }

  /** Resolves when its work has been undone; throws OPERATION_ENDED where it is too late. */
  async cancel(id: string): Promise<LongOperation> {
    const { state } = this.get(id);
    const running = this.#running.get(id);
    if (running === undefined) throw new VmError("OPERATION_ENDED", [id, state]);
    running.abort.abort();
    await running.done;
    return this.get(id);
  }

  /** The daemon ends: what is under way is begun again by the next one. */
  async release(): Promise<void> {
    this.#released = true;
    for (const { abort } of this.#running.values()) abort.abort();
    await Promise.all([...this.#running.values()].map(({ done }) => done));
  }

  #begin(operation: LongOperation, kind: OperationKind<object>, input: object): void {
    const abort = new AbortController();
    const done = this.#work(operation, kind, input, abort.signal).finally(() =>
      this.#running.delete(operation.id),
    );
    this.#running.set(operation.id, { abort, done });
  }

  async #work(
    operation: LongOperation,
    kind: OperationKind<object>,
    input: object,
    signal: AbortSignal,
  ): Promise<void> {
    let current = operation;
    let stored = 0;
    const progress = (done: number, total: number): void => {
      current = { ...current, progress: { ...current.progress, done, total } };
      if (this.#released || Date.now() - stored < PROGRESS_MS) return;
      stored = Date.now();
      this.#store(current);
    };
    await Promise.resolve(); // whoever started it has its answer first
    try {
      const created = Date.parse(operation.created);
      const result = await kind.run(input, { id: operation.id, signal, created, progress });
      if (!this.#released || !signal.aborted)
        this.#end({ ...current, state: "succeeded", result: { ...result } });
    } catch (error) {
      if (this.#released) return;
      if (signal.aborted) this.#end({ ...current, state: "cancelled" });
      else this.#fail(current, error);
    }
  }

  #fail(operation: LongOperation, thrown: unknown): void {
    const { code, message } = asVmError(thrown);
    this.#log.warn({ operation: operation.id, kind: operation.kind, message }, "it failed");
    this.#end({ ...operation, state: "failed", error: { code, detail: message } });
  }

  #end(operation: LongOperation): void {
    try {
      this.#store({ ...operation, ended: new Date().toISOString() });
    } catch (error) {
      this.#log.error({ operation: operation.id, error: String(error) }, "its end is not stored");
    }
  }

  #store(operation: LongOperation): void {
    const running = operation.state === "running";
    this.#db.commit(() => {
      this.#db
        .statement("UPDATE operations SET operation = ?, running = ? WHERE id = ?")
        .run(JSON.stringify(operation), running ? 1 : 0, operation.id);
      if (!running) this.#forgetOldest();
      this.#events.append("operation", operation);
    });
  }

  #forgetOldest(): void {
    this.#db
      .statement(
        `DELETE FROM operations WHERE running = 0 AND id NOT IN
           (SELECT id FROM operations WHERE running = 0 ORDER BY created DESC LIMIT ?)`,
      )
      .run(KEPT);
  }

  #unfinished(): StoredOperation[] {
    const sql = "SELECT operation, input FROM operations WHERE running = 1 ORDER BY created";
    return this.#db.statement(sql).all() as StoredOperation[];
  }
}
