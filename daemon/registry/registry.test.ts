import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Database from "better-sqlite3";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { parse, VmDefinition, VmError } from "../../api-schema/index.js";
import { Registry, type VmRow } from "./registry.js";

const definition = (name: string, uuid: string): VmDefinition =>
  parse(VmDefinition, { name, uuid, boot: { kind: "linux", kernel: "/k" } });

const row = (name: string, uuid: string): VmRow => ({
  definition: definition(name, uuid),
  generation: 1,
  created: 1000,
  changed: 1000,
  status: { state: "defined", generation: 0, resets: 0 },
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

  it("has after a reopen what was put in, sorted by name", () => {
    const first = new Registry(folder);
    first.insert(row("b", B));
    first.insert(row("a", A));
    first.updateStatus(
      A,
      { state: "running", generation: 4, resets: 1 },
      {
        nonce: "n",
        pid: 7,
        startTime: "99",
        folder: "/run/x",
      },
    );
    first.updateDefinition(definition("c", B), 2, 2000);
    first.close();

    const again = new Registry(folder);
    const rows = again.all(fail);
    again.close();
    expect(rows.map(({ definition: { name } }) => name)).toEqual(["a", "c"]);
    expect(rows[0]?.process?.pid).toBe(7);
    expect(rows[0]?.status).toEqual({ state: "running", generation: 4, resets: 1 });
    expect(rows[1]).toMatchObject({ generation: 2, changed: 2000 });
  });

  it("is durable: WAL with full synchronization", () => {
    new Registry(folder).close();
    const db = new Database(join(folder, "registry.db"));
    expect(db.pragma("journal_mode", { simple: true })).toBe("wal");
    db.close();
  });

  it("leaves out a row that cannot be read, and says which", () => {
    const first = new Registry(folder);
    first.insert(row("a", A));
    first.insert(row("b", B));
    first.close();
    const db = new Database(join(folder, "registry.db"));
    db.prepare("UPDATE vms SET status = '{' WHERE uuid = ?").run(A);
    db.close();

    const broken: string[] = [];
    const again = new Registry(folder);
    const rows = again.all((uuid) => broken.push(uuid));
    again.close();
    expect(broken).toEqual([A]);
    expect(rows.map(({ definition: { name } }) => name)).toEqual(["b"]);
  });

  it("refuses a database of a newer version and leaves it as it is", () => {
    new Registry(folder).close();
    const path = join(folder, "registry.db");
    const db = new Database(path);
    db.pragma("user_version = 99");
    db.close();
    expect(() => new Registry(folder)).toThrow(VmError);
    expect(() => new Registry(folder)).toThrow(/schema version 99; this daemon knows up to 1/);
    const after = new Database(path);
    expect(after.pragma("user_version", { simple: true })).toBe(99);
    after.close();
  });

  it("says that a file is no database", async () => {
    const { writeFileSync } = await import("node:fs");
    writeFileSync(
      join(folder, "registry.db"),
      "this is no database at all, but long enough".repeat(50),
    );
    expect(() => new Registry(folder)).toThrow(/registry\.db/);
  });
});
