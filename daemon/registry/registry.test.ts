import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Database from "better-sqlite3";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { parse, VmDefinition, VmError } from "../../api-schema/index.js";
import { Database as Db } from "./database.js";
import { migrations } from "./migrations.js";
import { Registry, type VmRow } from "./registry.js";

const definition = (name: string, uuid: string): VmDefinition =>
  parse(VmDefinition, { name, uuid, boot: { kind: "linux", kernel: "/k" } });

const row = (name: string, uuid: string): VmRow => ({
  definition: definition(name, uuid),
  generation: 1,
  created: 1000,
  changed: 1000,
  power: "stopped",
  status: { state: "defined", generation: 0, resets: 0, restarts: 0, observedGeneration: 1 },
  supervision: {},
  process: undefined,
});

const A = "00000000-0000-4000-8000-00000000000a";
const B = "00000000-0000-4000-8000-00000000000b";

describe("the registry", () => {
  let folder = "";
  const fail = (uuid: string): never => {
    throw new Error(`row ${uuid} cannot be read`);
  };

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "xhyved-registry-"));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  const open = (): { db: Db; registry: Registry } => {
    const db = new Db(folder);
    return { db, registry: new Registry(db) };
  };

  it("has after a reopen what was put in, sorted by name", () => {
    const { db, registry } = open();
    registry.insert(row("b", B));
    registry.insert(row("a", A));
    const process = { nonce: "n", pid: 7, startTime: "99", folder: "/run/x" };
    const status = { ...row("a", A).status, state: "running", generation: 4, resets: 1 } as const;
    registry.update({ ...row("a", A), power: "running", status, process });
    registry.update({ ...row("b", B), definition: definition("c", B), generation: 2, changed: 9 });
    db.close();

    const again = open();
    const rows = again.registry.all(fail);
    again.db.close();
    expect(rows.map(({ definition: { name } }) => name)).toEqual(["a", "c"]);
    expect(rows[0]).toMatchObject({ process, status, power: "running" });
    expect(rows[1]).toMatchObject({ generation: 2, changed: 9 });
  });

  it("refuses a name or UUID that is taken", () => {
    const { db, registry } = open();
    registry.insert(row("a", A));
    expect(() => registry.insert(row("a", B))).toThrow(/a VM named a exists/);
    expect(() => registry.insert(row("b", A))).toThrow(/with the UUID/);
    db.close();
  });

  it("is durable: WAL with full synchronization", () => {
    const { db } = open();
    const value = (name: string) => db.statement(`PRAGMA ${name}`).pluck().get();
    expect(value("journal_mode")).toBe("wal");
    expect(value("synchronous")).toBe(2); // FULL
    db.close();
  });

  it("leaves out a row that cannot be read, and says which", () => {
    const { db, registry } = open();
    registry.insert(row("a", A));
    registry.insert(row("b", B));
    db.statement("UPDATE vms SET status = '{' WHERE uuid = ?").run(A);
    const broken: string[] = [];
    const rows = registry.all((uuid) => broken.push(uuid));
    expect(broken).toEqual([A]);
    expect(rows.map(({ definition: { name } }) => name)).toEqual(["b"]);
    expect(() => registry.insert(row("a", B))).toThrow(VmError);
    db.close();
  });

  it("keeps nothing of a commit that fails, and tells nobody", () => {
    const { db, registry } = open();
    let told = false;
    const failing = (): void => {
      registry.insert(row("a", A));
      db.afterCommit(() => {
        told = true;
      });
      throw new Error("no");
    };
    expect(() => db.commit(failing)).toThrow("no");
    expect(registry.all(fail)).toEqual([]);
    db.commit(() => registry.insert(row("a", A)));
    expect(told).toBe(false);
    expect(registry.all(fail)).toHaveLength(1);
    db.close();
  });

  it("refuses a database of a newer version and leaves it as it is", () => {
    open().db.close();
    const path = join(folder, "registry.db");
    const db = new Database(path);
    db.pragma("user_version = 99");
    db.close();
    expect(() => new Db(folder)).toThrow(VmError);
    expect(() => new Db(folder)).toThrow(
      `schema version 99; this daemon knows up to ${migrations.length}`,
    );
    const after = new Database(path);
    expect(after.pragma("user_version", { simple: true })).toBe(99);
    after.close();
  });

  it("says that a file is no database", () => {
    const text = "this is no database at all, but long enough".repeat(50);
    writeFileSync(join(folder, "registry.db"), text);
    expect(() => new Db(folder)).toThrow(/registry\.db/);
  });

  it("says what its check finds in a damaged one, and where the backup is", () => {
    const { db, registry } = open();
    for (let n = 0; n < 200; n++) {
      const uuid = A.slice(0, -3) + String(n).padStart(3, "0");
      registry.insert(row(`vm${n}`, uuid));
    }
    db.close();
    const path = join(folder, "registry.db");
    writeFileSync(`${path}.version-1`, "");
    const bytes = readFileSync(path);
    const pageSize = 4096; // https://sqlite.org/fileformat.html, 1.3.2: the default
    bytes.fill(0x5a, 4 * pageSize, 12 * pageSize);
    writeFileSync(path, bytes);
    expect(() => new Db(folder)).toThrow(VmError);
    expect(() => new Db(folder)).toThrow(/there is a backup: .*version-1/);
  });
});

describe("a migration", () => {
  let folder = "";
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "xhyved-registry-"));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  /** As the first release wrote it. */
  function oldDatabase(): void {
    const db = new Database(join(folder, "registry.db"));
    db.exec(migrations[0] ?? "");
    db.pragma("user_version = 1");
    const insert = db.prepare("INSERT INTO vms VALUES (?, ?, ?, 3, 1000, 2000, ?, ?)");
    const { restart: _, autostart: __, readiness: ___, ...old } = definition("a", A);
    const status = { state: "running", generation: 7, resets: 2 };
    const process = { nonce: "n", pid: 7, startTime: "99", folder: "/run/x" };
    insert.run(A, "a", JSON.stringify(old), JSON.stringify(status), JSON.stringify(process));
    insert.run(B, "b", "{", "{", null);
    db.close();
  }

  it("from the first release keeps every row, and what was on is wished to be on", () => {
    oldDatabase();
    const db = new Db(folder);
    const broken: string[] = [];
    const rows = new Registry(db).all((uuid) => broken.push(uuid));
    expect(broken).toEqual([B]);
    expect(rows).toHaveLength(1);
    expect(rows[0]).toMatchObject({
      definition: definition("a", A),
      generation: 3,
      power: "running",
      status: { state: "running", generation: 7, resets: 2, restarts: 0, observedGeneration: 3 },
      process: { nonce: "n", pid: 7 },
    });
    db.close();
  });

  it("leaves a whole backup of what was there before", () => {
    oldDatabase();
    new Db(folder).close();
    const backup = new Database(join(folder, "registry.db.version-1"), { readonly: true });
    expect(backup.pragma("user_version", { simple: true })).toBe(1);
    expect(backup.prepare("SELECT name FROM vms ORDER BY name").pluck().all()).toEqual(["a", "b"]);
    backup.close();
    new Db(folder).close(); // nothing to migrate: no other backup
    expect(readdirSync(folder).filter((name) => name.includes("version"))).toEqual([
      "registry.db.version-1",
    ]);
  });

  it("of every version leads to the same schema", () => {
    const schemaOf = (): unknown => {
      const db = new Database(join(folder, "registry.db"), { readonly: true });
      const found = db.prepare("SELECT name, sql FROM sqlite_schema ORDER BY name").all();
      db.close();
      return found;
    };
    new Db(folder).close();
    const fresh = schemaOf();
    for (let version = 1; version < migrations.length; version++) {
      rmSync(folder, { recursive: true });
      mkdirSync(folder);
      const db = new Database(join(folder, "registry.db"));
      for (const step of migrations.slice(0, version)) db.exec(step);
      db.pragma(`user_version = ${version}`);
      db.close();
      new Db(folder).close();
      expect(schemaOf()).toEqual(fresh);
    }
  });
});
