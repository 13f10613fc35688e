// One VM as it is stored and shown: every change goes to the registry together with the event that
// tells of it, in one commit, and then to those who wait for it.
import { isDeepStrictEqual } from "node:util";
import type { Logger } from "pino";
import type {
  EventKind,
  Power,
  VmDefinition,
  VmPower,
  VmStatusView,
  VmView,
} from "../../api-schema/index.js";
import type { EventLog } from "../events/event-log.js";
import type { Database } from "../registry/database.js";
import type { ProcessRecord, Registry, Supervision, VmRow } from "../registry/registry.js";

export interface RecordTools {
  readonly db: Database;
  readonly registry: Registry;
  readonly events: EventLog;
  readonly log: Logger;
}

/** What is left out is as it was; what only lasts for a state, or a run, goes with it. */
export type StatusChange = Omit<
  VmStatusView,
  "generation" | "resets" | "pid" | "restarts" | "observedGeneration"
> &
  Partial<Pick<VmStatusView, "resets" | "restarts" | "observedGeneration">>;

export interface RowChange {
  readonly status?: StatusChange;
  readonly definition?: VmDefinition;
  readonly power?: Power;
  /** A client has said what the VM should be: another power is a generation of its own. */
  readonly declared?: boolean;
  /** A change of the definition asks nothing of the daemon: it is observed in the same commit. */
  readonly observed?: boolean;
  readonly supervision?: Supervision;
  /** null: there is none any more. */
  readonly process?: ProcessRecord | null;
}

export class VmRecord {
  readonly #tools: RecordTools;
  #row: VmRow;
  #view: { readonly row: VmRow; readonly view: VmView } | undefined;
  readonly #watchers = new Set<() => void>();

  constructor(row: VmRow, tools: RecordTools) {
    this.#row = row;
    this.#tools = tools;
  }

  get row(): VmRow {
    return this.#row;
  }
  get uuid(): string {
    return this.#row.definition.uuid;
  }
  get name(): string {
    return this.#row.definition.name;
  }
  get definition(): VmDefinition {
    return this.#row.definition;
  }
  get status(): VmStatusView {
    return this.#row.status;
  }
  get state(): VmPower {
    return this.#row.status.state;
  }

  /** The same object until something changes. */
  view(): VmView {
    if (this.#view?.row !== this.#row) this.#view = { row: this.#row, view: this.#makeView() };
    return this.#view.view;
  }

  #makeView(): VmView {
    const { definition, generation, created, changed, power, status, process } = this.#row;
    const pid = process?.pid ?? 0;
    return {
      uuid: definition.uuid,
      name: definition.name,
      generation,
      definition,
      power,
      status: { ...status, ...(pid === 0 ? {} : { pid }) },
      created: new Date(created).toISOString(),
      changed: new Date(changed).toISOString(),
    };
  }

  /** On the disk when it returns; throws where it cannot be stored, and nothing has changed. */
  store(change: RowChange): void {
    const next = this.#next(change);
    if (same(next, this.#row)) return;
    this.#tools.db.commit(() => {
      this.#tools.registry.update(next);
      this.#announce(next);
    });
    this.#publish(next);
  }

  /** What has happened has happened, whether or not it can be stored. */
  note(change: RowChange): void {
    try {
      this.store(change);
    } catch (error) {
      this.#tools.log.error({ vm: this.name, error: String(error) }, "its status is not stored");
      this.#publish(this.#next(change));
    }
  }

  /** `look` is called after every change. */
  watch(look: () => void): () => void {
    this.#watchers.add(look);
    return () => void this.#watchers.delete(look);
  }

  /** Those who wait look once more: the VM is deleted, which is no change of its row. */
  gone(): void {
    for (const look of [...this.#watchers]) look();
  }

  /** Looks at every change, so that no state is missed; false when the time is over. */
  until(reached: () => boolean, timeoutMs: number, signal?: AbortSignal): Promise<boolean> {
    if (reached()) return Promise.resolve(true);
    return new Promise((resolve) => {
      const finish = (result: boolean): void => {
        clearTimeout(timer);
        unwatch();
        signal?.removeEventListener("abort", abort);
        resolve(result);
      };
      const abort = (): void => finish(false);
      const unwatch = this.watch(() => reached() && finish(true));
      const timer = setTimeout(() => finish(false), Math.max(0, timeoutMs));
      signal?.addEventListener("abort", abort);
    });
  }

  #next(change: RowChange): VmRow {
    const { definition, power, supervision, process } = change;
    const row = this.#row;
    const redefined = definition !== undefined && !same(definition, row.definition);
    const changed =
      redefined || (change.declared === true && power !== undefined && power !== row.power);
    const generation = changed ? row.generation + 1 : row.generation;
    const observed = change.observed === true && { ...row.status, observedGeneration: generation };
    const status = change.status ?? (observed || undefined);
    return {
      ...row,
      ...(redefined && { definition }),
      ...(changed && { generation, changed: Date.now() }),
      ...(power && { power }),
      ...(supervision && { supervision }),
      ...(process !== undefined && { process: process ?? undefined }),
      status: status === undefined ? row.status : nextStatus(row.status, status),
    };
  }

  #announce(next: VmRow): void {
    const before = this.#row;
    const tell = (kind: EventKind, data: Readonly<Record<string, unknown>>): void =>
      this.#tools.events.append(kind, data, next.definition);
    if (next.generation !== before.generation) tell("vm.changed", { generation: next.generation });
    if (next.power !== before.power) tell("vm.power", { power: next.power });
    if (next.status !== before.status) tell("vm.status", next.status);
  }

  #publish(next: VmRow): void {
    this.#row = next;
    for (const look of [...this.#watchers]) look();
  }
}

/** In whatever order a client wrote the members. */
const same = (a: unknown, b: unknown): boolean => isDeepStrictEqual(a, b);

const RUNS: ReadonlySet<VmPower> = new Set(["running", "paused"]);

/** The very same object where nothing changes. */
export function nextStatus(before: VmStatusView, change: StatusChange): VmStatusView {
  const { generation, resets, restarts, observedGeneration, started, ready } = before;
  const resetNow = change.resets !== undefined && change.resets !== resets;
  const runs = RUNS.has(before.state) && RUNS.has(change.state);
  const next = {
    ...{ generation, resets, restarts, observedGeneration },
    ...(runs && started !== undefined && { started }),
    ...(runs && ready !== undefined && { ready: ready && !resetNow }),
    ...change,
  };
  return sameMembers(before, next) ? before : { ...next, generation: generation + 1 };
}

function sameMembers(a: object, b: object): boolean {
  const sorted = (value: object): string =>
    JSON.stringify(Object.entries(value).sort(([x], [y]) => (x < y ? -1 : 1)));
  return sorted(a) === sorted(b);
}
