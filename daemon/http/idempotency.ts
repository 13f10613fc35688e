// Idempotency-Key: a request that is sent again (a connection broke, a program was restarted) gets the
// answer of the first, and nothing is done twice. Only successes are kept: what was refused has
// changed nothing. Kept in the registry, so that a restart of the daemon forgets none.
import { createHash } from "node:crypto";
import { VmError } from "../../api-schema/index.js";
import type { OperationId } from "../../api-schema/operations.js";
import type { Database } from "../registry/database.js";
import type { Principal } from "./call.js";

const KEPT_MS = 24 * 3600 * 1000;
const CLEANED_EVERY_MS = 3600 * 1000;

interface Row {
  readonly request: Buffer;
  readonly status: number | null;
  readonly body: string | null;
}

export interface Answer {
  readonly status: number;
  readonly body: unknown;
}

/** What a handler may know of the key: a name for what it makes, the same for the same key. */
export interface Attempt {
  readonly uuid: string;
  /** An earlier attempt was begun by a daemon that did not live to answer it. */
  readonly again: boolean;
}

export interface KeyedRequest {
  readonly principal: Principal;
  readonly key: string;
  readonly operation: OperationId;
  /** Path, query and body, as they came. */
  readonly given: unknown;
}

export class Answers {
  readonly #db: Database;
  readonly #serving = new Set<string>();
  #cleaned = 0;

  constructor(db: Database) {
    this.#db = db;
  }

  /** The answer of before, or that of `work`; throws IDEMPOTENCY_KEY_REUSED or _BUSY. */
  async once(
    { principal, key, operation, given }: KeyedRequest,
    work: (attempt: Attempt) => Promise<Answer>,
  ): Promise<Answer> {
    const client = clientOf(principal);
    const request = digest(JSON.stringify([operation, given]));
    const row = this.#find(client, key);
    if (row !== undefined && !row.request.equals(request))
      throw new VmError("IDEMPOTENCY_KEY_REUSED", [key]);
    if (row?.status) return { status: row.status, body: JSON.parse(row.body ?? "null") as unknown };
    const serving = `${client}\n${key}`;
    if (this.#serving.has(serving)) throw new VmError("IDEMPOTENCY_KEY_BUSY", [key]);
    this.#serving.add(serving);
    try {
      this.#begin(client, key, request);
      const answer = await work({ uuid: uuidOf(client, key), again: row !== undefined });
      this.#end(client, key, answer);
      return answer;
    } catch (error) {
      this.#forget(client, key);
      throw error;
    } finally {
      this.#serving.delete(serving);
    }
  }

  #find(client: string, key: string): Row | undefined {
    const sql = "SELECT request, status, body FROM answers WHERE client = ? AND key = ?";
    return this.#db.statement(sql).get(client, key) as Row | undefined;
  }

  #begin(client: string, key: string, request: Buffer): void {
    const now = Date.now();
    this.#db.commit(() => {
      if (now - this.#cleaned > CLEANED_EVERY_MS) {
        this.#db.statement("DELETE FROM answers WHERE created < ?").run(now - KEPT_MS);
        this.#cleaned = now;
      }
      this.#db
        .statement(
          `INSERT INTO answers (client, key, request, created) VALUES (?, ?, ?, ?)
           ON CONFLICT DO NOTHING`,
        )
        .run(client, key, request, now);
    });
  }

  #end(client: string, key: string, { status, body }: Answer): void {
    this.#db
      .statement("UPDATE answers SET status = ?, body = ? WHERE client = ? AND key = ?")
      .run(status, JSON.stringify(body), client, key);
  }

  #forget(client: string, key: string): void {
    this.#db.statement("DELETE FROM answers WHERE client = ? AND key = ?").run(client, key);
  }
}

const clientOf = (principal: Principal): string =>
  principal.kind === "token" ? `token ${principal.name}` : `user ${principal.uid}`;

const digest = (text: string): Buffer => createHash("sha256").update(text).digest();

/** A UUID of version 8 (RFC 9562 §5.8). */
function uuidOf(client: string, key: string): string {
  const bytes = digest(`${client}\n${key}`).subarray(0, 16);
  bytes.writeUInt8((bytes.readUInt8(6) & 0x0f) | 0x80, 6);
  bytes.writeUInt8((bytes.readUInt8(8) & 0x3f) | 0x80, 8);
  return bytes.toString("hex").replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
