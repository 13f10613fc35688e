// How commands take a change of fields: FIELD=VALUE, or a merge patch in a file.
import { ClientError } from "./client.js";
import { type Options, text, type Values } from "./command.js";
import { documentsIn, patchOf } from "./documents.js";

export const patching: Options = {
  file: {
    type: "string",
    short: "f",
    value: "FILE",
    help: "a merge patch (YAML or JSON) instead; - is standard input",
  },
  "if-generation": {
    type: "string",
    value: "N",
    help: "only where the definition is at this generation",
  },
  "dry-run": { type: "boolean", help: "say all that would be wrong, and change nothing" },
};

export const patchNote = (field: string): string =>
  `FIELD is a path with dots, such as ${field}; VALUE is YAML: a number, true, null for the default, a text, a [list].`;

export interface Patch {
  readonly name: string;
  readonly body: Record<string, unknown>;
  readonly ifMatch?: number;
  readonly dryRun?: true;
}

/** Of `NAME [FIELD=VALUE …]`; throws ClientError naming `what` is missing. */
export function patchIn([name, ...fields]: readonly string[], values: Values, what: string): Patch {
  const file = text(values, "file");
  if (name === undefined || (file === undefined) === (fields.length === 0))
    throw new ClientError(`name a ${what}, and either fields or --file`);
  const patch = file === undefined ? patchOf(fields) : documentsIn(file)[0];
  const ifMatch = generationOf(values);
  return {
    name,
    body: patch as Record<string, unknown>,
    ...(ifMatch !== undefined && { ifMatch }),
    ...(values["dry-run"] === true && { dryRun: true }),
  };
}

const generationOf = (values: Values): number | undefined => {
  const given = text(values, "if-generation");
  if (given !== undefined && !/^[0-9]{1,15}$/.test(given))
    throw new ClientError("--if-generation takes a number");
  return given === undefined ? undefined : Number(given);
};
