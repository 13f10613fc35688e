// The daemon's one database: SQLite in WAL mode with synchronous=FULL, so that what a commit has
// returned from is on the disk, whatever is killed next.
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
} from "node:fs";
import { join } from "node:path";
import SqliteDatabase from "better-sqlite3";
import { VmError } from "../../api-schema/index.js";
import { migrations } from "./migrations.js";

export type Statement = SqliteDatabase.Statement<unknown[], unknown>;

export class Database {
  readonly #path: string;
  readonly #db: SqliteDatabase.Database;
  readonly #statements = new Map<string, Statement>();
  #afterCommit: (() => void)[] = [];

  /**
   * Opens or creates `stateDir`/registry.db, and brings it to this version, with a backup beside
   * it first. Throws VmError DATABASE_NEWER, or DATABASE_BROKEN with what the check found.
   */
  constructor(stateDir: string) {
    mkdirSync(stateDir, { recursive: true, mode: 0o700 });
    const path = join(stateDir, "registry.db");
    this.#path = path;
    try {
      this.#db = new SqliteDatabase(path);
      this.#db.pragma("journal_mode = WAL");
      this.#db.pragma("synchronous = FULL");
      check(this.#db, path);
      migrate(this.#db, path);
    } catch (error) {
      if (error instanceof VmError) throw error;
      throw new VmError("DATABASE_BROKEN", [path, String(error)], { cause: error });
    }
  }

  /** Prepared once. */
  statement(sql: string): Statement {
    let found = this.#statements.get(sql);
    if (found === undefined) {
      found = this.#db.prepare<unknown[], unknown>(sql);
      this.#statements.set(sql, found);
    }
    return found;
  }

  /** All of it or nothing, on the disk when this returns. May be called within another. */
  commit<T>(work: () => T): T {
    if (this.#db.inTransaction) return work();
    let result: T;
    try {
      result = this.#db.transaction(work).immediate();
    } catch (error) {
      this.#afterCommit = [];
      throw error;
    }
    const after = this.#afterCommit;
    this.#afterCommit = [];
    for (const act of after) act();
    return result;
  }

  /** Once the commit that is under way is on the disk; never where it fails. */
  afterCommit(act: () => void): void {
    this.#afterCommit.push(act);
  }

  /** Small things the daemon remembers about itself. */
  fact(name: string): string | undefined {
    return this.statement("SELECT value FROM facts WHERE name = ?").pluck().get(name) as
      | string
      | undefined;
  }

  setFact(name: string, value: string): void {
    this.statement("INSERT OR REPLACE INTO facts (name, value) VALUES (?, ?)").run(name, value);
  }

  /** Throws DATABASE_BROKEN where nothing can be written: the disk is full, or has gone. */
  checkWritable(): void {
    try {
      this.commit(() => this.setFact("checked", new Date().toISOString()));
    } catch (error) {
      throw new VmError("DATABASE_BROKEN", [this.#path, String(error)], { cause: error });
    }
  }

  close(): void {
    this.#db.close();
  }
}

function check(db: SqliteDatabase.Database, path: string): void {
  const found = String(db.pragma("quick_check(1)", { simple: true }));
  if (found === "ok") return;
  const backups = backupsOf(path);
  const hint = backups.length === 0 ? "" : `; there is a backup: ${backups.join(", ")}`;
  throw new VmError("DATABASE_BROKEN", [path, `its check found: ${found}${hint}`]);
}

const backupOf = (path: string, version: number): string => `${path}.version-${version}`;

const backupsOf = (path: string): string[] =>
  readdirSync(join(path, ".."))
    .filter((name) => name.startsWith("registry.db.version-"))
    .map((name) => join(path, "..", name));

function migrate(db: SqliteDatabase.Database, path: string): void {
  const version = Number(db.pragma("user_version", { simple: true }));
  if (version > migrations.length)
    throw new VmError("DATABASE_NEWER", [path, version, migrations.length]);
  if (version === migrations.length) return;
  if (version > 0) backUp(db, backupOf(path, version));
  db.transaction(() => {
    for (const step of migrations.slice(version)) db.exec(step);
    db.pragma(`user_version = ${migrations.length}`);
  })();
}

/** A whole copy, on the disk before anything is changed. An older one of that version goes. */
function backUp(db: SqliteDatabase.Database, path: string): void {
  const unfinished = `${path}.new`;
  rmSync(unfinished, { force: true });
  db.prepare("VACUUM INTO ?").run(unfinished);
  const fd = openSync(unfinished, "r+");
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  if (existsSync(path)) rmSync(path);
  renameSync(unfinished, path);
}
