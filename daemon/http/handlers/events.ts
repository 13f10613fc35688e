// Events, read from the database at the watcher's pace: nothing is held for one that is slow, and
// one that comes back after a restart of the daemon goes on where it was.
import type { Event, EventFilter } from "../../../api-schema/index.js";
import { type EventLog, type EventQuery, queryOf } from "../../events/event-log.js";
import type { Supervisor } from "../../supervisor/supervisor.js";
import type { Handlers, ServerEvent } from "../call.js";

const PAGE = 256;

interface Parts {
  readonly supervisor: Supervisor;
  readonly events: EventLog;
}

export function eventHandlers({ supervisor, events }: Parts): Pick<Handlers, "watchEvents"> {
  /** A VM that has been deleted is known by its UUID alone. */
  const uuidOf = ({ vm }: EventFilter): string | undefined =>
    vm === undefined || /^[0-9a-f-]{36}$/i.test(vm) ? vm?.toLowerCase() : supervisor.find(vm).uuid;
  return {
    watchEvents: ({ query, signal }) =>
      follow(events, query.after ?? events.last, queryOf(query, uuidOf(query)), signal),
  };
}

/** Ends with the signal. */
export async function* follow(
  log: EventLog,
  after: number,
  query: EventQuery,
  signal: AbortSignal,
): AsyncGenerator<ServerEvent<Event>> {
  let wake = (): void => {};
  const unwatch = log.watch(() => wake());
  const stop = (): void => wake();
  signal.addEventListener("abort", stop);
  try {
    for (let at = Math.min(after, log.last); !signal.aborted; ) {
      const woken = new Promise<void>((resolve) => {
        wake = resolve;
      });
      const { events, next, lostTo } = log.read(at, query, PAGE);
      if (lostTo !== undefined) yield lost(at + 1, lostTo);
      for (const event of events) yield { sequence: event.sequence, data: event };
      if (next === at && !signal.aborted) await woken;
      at = next;
    }
  } finally {
    unwatch();
    signal.removeEventListener("abort", stop);
  }
}

function lost(from: number, to: number): ServerEvent<Event> {
  const time = new Date().toISOString();
  return { sequence: to, data: { sequence: to, time, kind: "events.lost", data: { from, to } } };
}
