// The daemon's line of events: appended to in the same commit as the change that each tells of, so
// that no watcher hears of what was not stored, or misses what was. Kept up to a limit.
import {
  type Event,
  type EventFilter,
  type EventKind,
  eventKinds,
  VmError,
} from "../../api-schema/index.js";
import type { Database } from "../registry/database.js";

export const DEFAULT_KEPT = 20_000;
/** The oldest go a few at a time. */
const TRIM_EVERY = 64;

export interface EventSubject {
  readonly uuid: string;
  readonly name: string;
}

interface StoredEvent {
  readonly sequence: number;
  readonly event: string;
}

export interface EventPage {
  readonly events: readonly Event[];
  /** Where the next page begins: events up to here were looked at. */
  readonly next: number;
  /** Events asked for that are no longer kept, where there are any. */
  readonly lostTo: number | undefined;
}

export class EventLog {
  readonly #db: Database;
  readonly #kept: number;
  readonly #watchers = new Set<() => void>();
  #last: number;
  #told = false;

  constructor(db: Database, kept = DEFAULT_KEPT) {
    this.#db = db;
    this.#kept = kept;
    this.#last = this.#newest();
  }

  /** The sequence number of the newest event. */
  get last(): number {
    return this.#last;
  }

  append(kind: EventKind, data: Readonly<Record<string, unknown>>, vm?: EventSubject): void {
    this.#db.commit(() => {
      const time = new Date().toISOString();
      const event = { time, kind, ...(vm && { vm: { uuid: vm.uuid, name: vm.name } }), data };
      const { lastInsertRowid } = this.#db
        .statement("INSERT INTO events (kind, vm, event) VALUES (?, ?, ?)")
        .run(kind, vm?.uuid ?? null, JSON.stringify(event));
      const sequence = Number(lastInsertRowid);
      if (sequence % TRIM_EVERY === 0)
        this.#db.statement("DELETE FROM events WHERE sequence <= ?").run(sequence - this.#kept);
      this.#db.afterCommit(() => this.#tell(sequence));
    });
  }

  /** At most `most` events after `after`, of those that the filter lets through. */
  read(after: number, filter: EventQuery, most: number): EventPage {
    const last = this.#last;
    const oldest = this.#oldest();
    const lostTo = oldest > after + 1 ? oldest - 1 : undefined;
    const rows = this.#db
      .statement(
        `SELECT sequence, event FROM events
         WHERE sequence > ? AND sequence <= ? AND (? IS NULL OR vm = ?)
           AND (? IS NULL OR instr(?, ',' || kind || ',') > 0)
         ORDER BY sequence LIMIT ?`,
      )
      .all(
        ...[after, last, filter.vm ?? null, filter.vm ?? null],
        ...[filter.kinds ?? null, filter.kinds ?? null, most],
      ) as StoredEvent[];
    const events = rows.map(
      ({ sequence, event }) => ({ sequence, ...(JSON.parse(event) as object) }) as Event,
    );
    const next = rows.length < most ? Math.max(after, last) : (rows.at(-1)?.sequence ?? after);
    return { events, next, lostTo };
  }

  /** `more` is called when there are new events; the returned function ends that. */
  watch(more: () => void): () => void {
    this.#watchers.add(more);
    return () => void this.#watchers.delete(more);
  }

  /** Once for all that this turn of the event loop brings. */
  #tell(sequence: number): void {
    this.#last = sequence;
    if (this.#told) return;
    this.#told = true;
    queueMicrotask(() => {
      this.#told = false;
      for (const more of this.#watchers) more();
    });
  }

  /** Also of those that have been deleted: numbers are never used twice. */
  #newest(): number {
    const sequence = this.#db
      .statement("SELECT seq FROM sqlite_sequence WHERE name = 'events'")
      .pluck()
      .get();
    return Number(sequence ?? 0);
  }

  /** Of the events kept; one past the newest where none is. */
  #oldest(): number {
    const oldest = this.#db.statement("SELECT min(sequence) FROM events").pluck().get();
    return oldest === null ? this.#last + 1 : Number(oldest);
  }
}

/** A filter as the database takes it. */
export interface EventQuery {
  /** UUID. */
  readonly vm?: string | undefined;
  /** Kinds, each between commas. */
  readonly kinds?: string | undefined;
}

/** Throws REQUEST_INVALID for a kind that there is not. */
export function queryOf({ kinds }: EventFilter, uuid: string | undefined): EventQuery {
  if (kinds === undefined) return { vm: uuid };
  const wanted = kinds.split(",").flatMap((one) => {
    const found = eventKinds.filter((kind) => kind === one || kind.startsWith(`${one}.`));
    if (found.length === 0)
      throw new VmError("REQUEST_INVALID", [
        "query.kinds",
        `there are no events of the kind ${one}; there are ${eventKinds.join(", ")}`,
      ]);
    return found;
  });
  return { vm: uuid, kinds: `,${wanted.join(",")},` };
}
