// The registry of VM definitions: SQLite, in WAL mode with synchronous=FULL, so that whatever was
// acknowledged is on the disk.
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import Database from "better-sqlite3";
import { type VmDefinition, VmError, type VmStatusView } from "../../api-schema/index.js";
import { migrations } from "./migrations.js";

/** What finds a running VM process again; a pid alone proves nothing. */
export interface ProcessRecord {
  readonly nonce: string;
  readonly pid: number;
  /** The host's start time of that pid, as the kernel gives it. */
  readonly startTime: string;
  readonly folder: string;
}

export interface VmRow {
  readonly definition: VmDefinition;
  readonly generation: number;
  readonly created: number;
  readonly changed: number;
  readonly status: VmStatusView;
  readonly process: ProcessRecord | undefined;
}

interface StoredRow {
  readonly uuid: string;
  readonly definition: string;
  readonly generation: number;
  readonly created: number;
  readonly changed: number;
  readonly status: string;
  readonly process: string | null;
}

export class Registry {
  readonly #db: Database.Database;

  /** Opens or creates `stateDir`/registry.db; throws VmError DATABASE_NEWER or DATABASE_BROKEN. */
  constructor(stateDir: string) {
    mkdirSync(stateDir, { recursive: true, mode: 0o700 });
    const path = join(stateDir, "registry.db");
    try {
      this.#db = new Database(path);
      this.#db.pragma("journal_mode = WAL");
      this.#db.pragma("synchronous = FULL");
      migrate(this.#db, path);
    } catch (error) {
      if (error instanceof VmError) throw error;
      throw new VmError("DATABASE_BROKEN", [path, String(error)], { cause: error });
    }
  }

  /** All rows; one that cannot be read is handed to `broken` and left out. */
  all(broken: (uuid: string, error: unknown) => void): VmRow[] {
    const stored = this.#db.prepare<[], StoredRow>("SELECT * FROM vms ORDER BY name").all();
    return stored.flatMap((row) => {
      try {
        return [parseRow(row)];
      } catch (error) {
        broken(row.uuid, error);
        return [];
      }
    });
  }

  insert(row: VmRow): void {
    const { definition } = row;
    this.#db
      .prepare(
        `INSERT INTO vms (uuid, name, definition, generation, created, changed, status, process)
         VALUES (?, ?, ?, ?, ?, ?, ?, NULL)`,
      )
      .run(
        definition.uuid,
        definition.name,
        JSON.stringify(definition),
        row.generation,
        row.created,
        row.changed,
        JSON.stringify(row.status),
      );
  }

  updateDefinition(definition: VmDefinition, generation: number, changed: number): void {
    this.#db
      .prepare(
        "UPDATE vms SET name = ?, definition = ?, generation = ?, changed = ? WHERE uuid = ?",
      )
      .run(definition.name, JSON.stringify(definition), generation, changed, definition.uuid);
  }

  updateStatus(uuid: string, status: VmStatusView, process: ProcessRecord | undefined): void {
    this.#db
      .prepare("UPDATE vms SET status = ?, process = ? WHERE uuid = ?")
      .run(JSON.stringify(status), process ? JSON.stringify(process) : null, uuid);
  }

  remove(uuid: string): void {
    this.#db.prepare("DELETE FROM vms WHERE uuid = ?").run(uuid);
  }

  close(): void {
    this.#db.close();
  }
}

function migrate(db: Database.Database, path: string): void {
  const version = Number(db.pragma("user_version", { simple: true }));
  if (version > migrations.length)
    throw new VmError("DATABASE_NEWER", [path, version, migrations.length]);
  db.transaction(() => {
    for (const step of migrations.slice(version)) db.exec(step);
    db.pragma(`user_version = ${migrations.length}`);
  })();
}

const parseRow = (row: StoredRow): VmRow => ({
  definition: JSON.parse(row.definition) as VmDefinition,
  generation: row.generation,
  created: row.created,
  changed: row.changed,
  status: JSON.parse(row.status) as VmStatusView,
  process: row.process === null ? undefined : (JSON.parse(row.process) as ProcessRecord),
});
