// Bearer tokens: `xhyved.ID.SECRET`, 256 random bits behind a public id. Only the digest is kept, so
// the database gives none away; being random, they need no slow hash.
import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import { VmError } from "../../api-schema/index.js";
import type { Scope } from "../../api-schema/operations.js";
import type { Database } from "./database.js";

export interface TokenRecord {
  readonly name: string;
  readonly scope: Scope;
  /** Milliseconds since 1970. */
  readonly created: number;
  readonly expires: number | undefined;
}

interface Row {
  readonly id: string;
  readonly name: string;
  readonly digest: Buffer;
  readonly scope: Scope;
  readonly created: number;
  readonly expires: number | null;
}

export const tokenDigest = (token: string): Buffer => createHash("sha256").update(token).digest();

const FORM = /^xhyved\.([0-9a-f]{16})\.[A-Za-z0-9_-]{43}$/;
/** What an unknown id is compared with, so that it takes as long as a known one. */
const NOBODY = Buffer.alloc(32);

export class Tokens {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  list(): TokenRecord[] {
    const rows = this.#db.statement("SELECT * FROM tokens ORDER BY name").all() as Row[];
    return rows.map(recordOf);
  }

  /** The token is told here and never again; throws TOKEN_EXISTS. */
  create(name: string, scope: Scope, expires?: number): { token: string; record: TokenRecord } {
    const id = randomBytes(8).toString("hex");
    const token = `xhyved.${id}.${randomBytes(32).toString("base64url")}`;
    const created = Date.now();
    const { changes } = this.#db
      .statement(
        `INSERT INTO tokens (id, name, digest, scope, created, expires) VALUES (?, ?, ?, ?, ?, ?)
         ON CONFLICT (name) DO NOTHING`,
      )
      .run(id, name, tokenDigest(token), scope, created, expires ?? null);
    if (changes === 0) throw new VmError("TOKEN_EXISTS", [name]);
    return { token, record: { name, scope, created, expires } };
  }

  /** Throws TOKEN_NOT_FOUND. */
  remove(name: string): void {
    const { changes } = this.#db.statement("DELETE FROM tokens WHERE name = ?").run(name);
    if (changes === 0) throw new VmError("TOKEN_NOT_FOUND", [name]);
  }

  /** Whose it is; undefined where it is nobody's, or no longer valid. In constant time. */
  find(token: string, now = Date.now()): TokenRecord | undefined {
    const id = FORM.exec(token)?.[1] ?? "";
    const row = this.#db.statement("SELECT * FROM tokens WHERE id = ?").get(id) as Row | undefined;
    const same = timingSafeEqual(tokenDigest(token), row?.digest ?? NOBODY);
    if (row === undefined || !same) return undefined;
    return row.expires !== null && row.expires <= now ? undefined : recordOf(row);
  }
}

const recordOf = ({ name, scope, created, expires }: Row): TokenRecord => ({
  name,
  scope,
  created,
  expires: expires ?? undefined,
});
