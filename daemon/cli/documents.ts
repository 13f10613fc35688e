// What people write by hand: YAML, of which JSON is a part (YAML 1.2.2, §1.3), in files of one or
// several documents.
import { readFileSync } from "node:fs";
import { parse, parseAllDocuments, YAMLParseError } from "yaml";
import { ClientError } from "./client.js";

/** Aliases let a small file stand for a huge value: so many expansions are enough for people. */
const MAX_ALIASES = 100;

/** Throws ClientError naming the file and the line. */
export function documentsIn(file: string): object[] {
  const source = file === "-" ? "standard input" : file;
  const documents = parseAllDocuments(read(file), { prettyErrors: true });
  if (!Array.isArray(documents)) return [];
  return documents.flatMap((document) => {
    const [error] = document.errors;
    if (error !== undefined) throw new ClientError(`${source}: ${error.message.trimEnd()}`);
    const value: unknown = document.toJS({ maxAliasCount: MAX_ALIASES });
    if (value === null) return []; // between two separators
    if (typeof value !== "object") throw new ClientError(`${source}: a document is no mapping`);
    return Array.isArray(value) ? (value as object[]) : [value];
  });
}

function read(file: string): string {
  try {
    return readFileSync(file === "-" ? 0 : file, "utf8");
  } catch (error) {
    throw new ClientError(`${file} cannot be read: ${(error as Error).message}`);
  }
}

/** `a.b=VALUE` and their like as one merge patch (RFC 7396). */
export function patchOf(fields: readonly string[]): Record<string, unknown> {
  const patch: Record<string, unknown> = {};
  for (const field of fields) {
    const [, path = "", value = ""] = /^([^=]+)=(.*)$/s.exec(field) ?? [];
    if (path === "") throw new ClientError(`${field}: write FIELD=VALUE`);
    const names = path.split(".");
    const last = names.pop() ?? "";
    let at = patch;
    for (const name of names) {
      const inner = Object.hasOwn(at, name) ? at[name] : {};
      at[name] = typeof inner === "object" && inner !== null ? inner : {};
      at = at[name] as Record<string, unknown>;
    }
    at[last] = readValue(field, value);
  }
  return patch;
}

function readValue(field: string, value: string): unknown {
  try {
    return parse(value, { maxAliasCount: 0 });
  } catch (error) {
    if (error instanceof YAMLParseError) throw new ClientError(`${field}: ${error.message}`);
    throw error;
  }
}
