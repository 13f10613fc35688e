// The registry of VMs: what each is, what it should be, what it was last, and how its process is
// found again.
import {
  type Power,
  parse,
  VmDefinition,
  VmError,
  type VmStatusView,
} from "../../api-schema/index.js";
import type { Database } from "./database.js";

/** What finds a running VM process again; a pid alone proves nothing. */
export interface ProcessRecord {
  readonly nonce: string;
  /** 0: it was about to be started. */
  readonly pid: number;
  /** The host's start time of that pid, as the kernel gives it. */
  readonly startTime: string;
  readonly folder: string;
  /** Where the console's history ended when it was started. */
  readonly consoleStart?: number;
}

/** What the daemon must remember to supervise a VM, and nobody else is shown. */
export interface Supervision {
  /** When its last runs ended (milliseconds since 1970), for the restart policy. */
  readonly ends?: readonly number[];
  /** It is to be started since the host has booted. */
  readonly boot?: boolean;
}

export interface VmRow {
  readonly definition: VmDefinition;
  readonly generation: number;
  /** Milliseconds since 1970. */
  readonly created: number;
  readonly changed: number;
  readonly power: Power;
  readonly status: VmStatusView;
  readonly supervision: Supervision;
  readonly process: ProcessRecord | undefined;
}

interface StoredRow {
  readonly uuid: string;
  readonly definition: string;
  readonly generation: number;
  readonly created: number;
  readonly changed: number;
  readonly power: Power;
  readonly status: string;
  readonly supervision: string;
  readonly process: string | null;
}

const COLUMNS =
  "name, definition, generation, created, changed, power, status, supervision, process";

const valuesOf = (row: VmRow): unknown[] => [
  row.definition.name,
  JSON.stringify(row.definition),
  row.generation,
  row.created,
  row.changed,
  row.power,
  JSON.stringify(row.status),
  JSON.stringify(row.supervision),
  row.process ? JSON.stringify(row.process) : null,
];

export class Registry {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** All rows; one that cannot be read is handed to `broken` and left out. */
  all(broken: (uuid: string, error: unknown) => void): VmRow[] {
    const stored = this.#db.statement("SELECT * FROM vms ORDER BY name").all() as StoredRow[];
    return stored.flatMap((row) => {
      try {
        return [parseRow(row)];
      } catch (error) {
        broken(row.uuid, error);
        return [];
      }
    });
  }

  /** Also a row that cannot be read. */
  has(uuid: string): boolean {
    return this.#db.statement("SELECT 1 FROM vms WHERE uuid = ?").get(uuid) !== undefined;
  }

  /** Throws VM_EXISTS or VM_UUID_EXISTS, also for a row that cannot be read. */
  insert(row: VmRow): void {
    const { uuid, name } = row.definition;
    const taken = (column: string, value: string): boolean =>
      this.#db.statement(`SELECT 1 FROM vms WHERE ${column} = ?`).get(value) !== undefined;
    if (taken("name", name)) throw new VmError("VM_EXISTS", [name]);
    if (taken("uuid", uuid)) throw new VmError("VM_UUID_EXISTS", [uuid]);
    this.#db
      .statement(`INSERT INTO vms (uuid, ${COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`)
      .run(uuid, ...valuesOf(row));
  }

  update(row: VmRow): void {
    this.#db
      .statement(`UPDATE vms SET (${COLUMNS}) = (?, ?, ?, ?, ?, ?, ?, ?, ?) WHERE uuid = ?`)
      .run(...valuesOf(row), row.definition.uuid);
  }

  remove(uuid: string): void {
    this.#db.statement("DELETE FROM vms WHERE uuid = ?").run(uuid);
  }
}

/** An older daemon's row lacks what was added since: definitions get the defaults. */
const parseRow = (row: StoredRow): VmRow => ({
  definition: parse(VmDefinition, JSON.parse(row.definition), "definition"),
  generation: row.generation,
  created: row.created,
  changed: row.changed,
  power: row.power,
  status: {
    ...{ observedGeneration: row.generation, restarts: 0 },
    ...(JSON.parse(row.status) as VmStatusView),
  },
  supervision: JSON.parse(row.supervision) as Supervision,
  process: row.process === null ? undefined : (JSON.parse(row.process) as ProcessRecord),
});
