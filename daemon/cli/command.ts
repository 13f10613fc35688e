// What a command of xhyvectl is: a row of a table from which the help, the man page and the shells'
// completion are made, and one function.
import type { OperationId } from "../../api-schema/operations.js";
import { type Client, ClientError } from "./client.js";
import { type Cell, table } from "./table.js";

export interface Context {
  readonly client: Client;
  readonly json: boolean;
  readonly colour: boolean;
  readonly print: (text: string) => void;
}

export type Values = Readonly<Record<string, string | boolean | readonly string[] | undefined>>;

export interface Option {
  readonly type: "string" | "boolean";
  readonly short?: string;
  readonly multiple?: boolean;
  /** What stands for its value in the help: FILE and VM are also what shells complete. */
  readonly value?: string;
  readonly help: string;
  /** All values there are, for completion. */
  readonly choices?: readonly string[];
}
export type Options = Readonly<Record<string, Option>>;

export interface Command {
  /** As the help shows them: VM, FILE, … in capitals, [in brackets] where they may be left out. */
  readonly arguments: string;
  readonly summary: string;
  /** Of the API: a test sees that every operation has a command. */
  readonly operations: readonly OperationId[];
  readonly options?: Options;
  /** Paragraphs below the options. */
  readonly notes?: readonly string[];
  readonly examples?: readonly string[];
  run(context: Context, positionals: readonly string[], values: Values): Promise<void>;
}

export type Commands = Readonly<Record<string, Command>>;

/** JSON as it came for programs, `people()` else. */
export function show({ json, print }: Context, value: unknown, people: () => string): void {
  print(json ? `${JSON.stringify(value, null, 2)}\n` : people());
}

/** A table, or a sentence where it would be empty. */
export function showTable(
  context: Context,
  value: unknown,
  heads: readonly string[],
  { rows, none }: { readonly rows: readonly (readonly Cell[])[]; readonly none: string },
): void {
  show(context, value, () =>
    rows.length === 0 ? `${none}\n` : table(heads, rows, context.colour),
  );
}

/** The one argument; throws ClientError saying `what` it is. */
export function one(positionals: readonly string[], what = "VM"): string {
  const [name] = positionals;
  if (name === undefined || positionals.length > 1) throw new ClientError(`name one ${what}`);
  return name;
}

export function none(positionals: readonly string[]): void {
  if (positionals.length > 0) throw new ClientError(`it takes no argument ${positionals[0]}`);
}

export const text = (values: Values, name: string): string | undefined => {
  const value = values[name];
  return typeof value === "string" ? value : undefined;
};

export const texts = (values: Values, name: string): readonly string[] => {
  const value = values[name];
  return Array.isArray(value) ? (value as readonly string[]) : [];
};

/** A whole number; throws ClientError naming the option. */
export function number(values: Values, name: string, fallback: number): number {
  const given = text(values, name);
  if (given === undefined) return fallback;
  if (!/^[0-9]{1,9}$/.test(given)) throw new ClientError(`--${name} takes a whole number`);
  return Number(given);
}

export const seconds = (values: Values, fallback: number): number =>
  number(values, "timeout", fallback);

/** Nested values as indented lines. */
export function describe(value: object, indent = ""): string[] {
  return Object.entries(value).flatMap(([name, member]): string[] => {
    if (typeof member !== "object" || member === null)
      return [`${indent}${name}: ${String(member)}`];
    return [`${indent}${name}:`, ...describe(member, `${indent}  `)];
  });
}
