// What xhyvectl does with tokens for clients over TCP.
import { type Scope, scopes } from "../../api-schema/operations.js";
import { ClientError } from "./client.js";
import { type Command, none, one, show, showTable, text } from "./command.js";
import type { Cell } from "./table.js";

const list: Command = {
  arguments: "",
  summary: "the tokens there are, without their secrets",
  operations: ["listTokens"],
  async run(context, positionals) {
    none(positionals);
    const { tokens } = await context.client.call("listTokens", {});
    const rows = tokens.map(({ name, scope, created, expires }): Cell[] => [
      { text: name },
      { text: scope },
      { text: created },
      { text: expires ?? "never" },
    ]);
    showTable(context, tokens, ["NAME", "SCOPE", "CREATED", "EXPIRES"], {
      rows,
      none: "no tokens",
    });
  },
};

const scopeNamed = (name: string): Scope => {
  const scope = scopes.find((known) => known === name);
  if (scope === undefined) throw new ClientError(`--scope takes ${scopes.join(", ")}`);
  return scope;
};

const UNITS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400 };

/** `90s`, `12h`, `30d` in seconds. */
export function duration(given: string): number {
  const [, count, unit = "s"] = /^([0-9]{1,9})([smhd]?)$/.exec(given) ?? [];
  if (count === undefined) throw new ClientError("--expires takes a time such as 12h or 30d");
  return Number(count) * (UNITS[unit || "s"] ?? 1);
}

const create: Command = {
  arguments: "NAME",
  summary: "make a token, and print its secret this once",
  operations: ["createToken"],
  options: {
    scope: {
      type: "string",
      value: "SCOPE",
      help: "read (the default) looks; operate also starts and stops; admin does all",
      choices: scopes,
    },
    expires: { type: "string", value: "TIME", help: "from now, such as 12h or 30d (never)" },
  },
  examples: ["xhyvectl token create grafana --expires 365d > grafana.token"],
  async run(context, positionals, values) {
    const expires = text(values, "expires");
    const scope = scopeNamed(text(values, "scope") ?? "read");
    const body = {
      name: one(positionals, "token"),
      scope,
      ...(expires !== undefined && { expiresIn: duration(expires) }),
    };
    const made = await context.client.call("createToken", { body });
    show(context, made, () => `${made.token}\n`);
  },
};

const remove: Command = {
  arguments: "NAME",
  summary: "revoke a token",
  operations: ["deleteToken"],
  async run(context, positionals) {
    const token = one(positionals, "token");
    await context.client.call("deleteToken", { token });
    show(context, { deleted: token }, () => `${token} is revoked\n`);
  },
};

export const tokenCommands = {
  "token list": list,
  "token create": create,
  "token revoke": remove,
};
