// Tokens for clients over TCP, on the command line.

import type { Static } from "@sinclair/typebox";
import type { TokenScope } from "../../api-schema/daemon-api.js";
import { ClientError } from "./client.js";
import type { Command, Context } from "./commands.js";
import { table } from "./table.js";

type Scope = Static<typeof TokenScope>;

const SCOPES: readonly Scope[] = ["read", "operate", "admin"];
const UNITS = { s: 1, m: 60, h: 3600, d: 86_400 } as const;

function scopeOf(given: unknown): Scope {
  const scope = SCOPES.find((one) => one === given);
  if (scope === undefined) throw new ClientError(`--scope takes ${SCOPES.join(", ")}`);
  return scope;
}

/** Seconds of a time such as 90s, 30m, 12h or 30d. */
function secondsOf(given: string): number {
  const [, amount = "", unit = "s"] = /^([0-9]{1,9})([smhd])$/.exec(given) ?? [];
  if (amount === "") throw new ClientError("--expires takes a time such as 12h or 30d");
  return Number(amount) * UNITS[unit as keyof typeof UNITS];
}

async function list({ client, json, colour, print }: Context): Promise<void> {
  const { tokens } = await client.call("listTokens", {});
  const rows = tokens.map(({ name, scope, created, expires }) =>
    [name, scope, created, expires ?? "never"].map((text) => ({ text })),
  );
  if (json) print(`${JSON.stringify(tokens, null, 2)}\n`);
  else print(table(["NAME", "SCOPE", "CREATED", "EXPIRES"], rows, colour));
}

const named = (name: string | undefined): string => {
  if (name === undefined) throw new ClientError("name the token");
  return name;
};

export const token: Command = {
  arguments: "create|list|revoke [NAME]",
  summary: "tokens for clients over TCP",
  options: { scope: { type: "string" }, expires: { type: "string" } },
  details: [
    "create NAME          make one, and print it: it is told this once",
    "revoke NAME          refuse it from now on",
    "--scope SCOPE        read looks; operate also starts and stops; admin does all (read)",
    "--expires TIME       such as 12h or 30d; never without it",
  ],
  async run(context, [action, name, ...rest], values) {
    if (rest.length > 0) throw new ClientError("name one token");
    const { client, json, print } = context;
    if (action === "list") return list(context);
    if (action === "revoke") {
      await client.call("deleteToken", { token: named(name) });
      return print(json ? "{}\n" : `${name} is revoked\n`);
    }
    if (action !== "create") throw new ClientError("say create, list or revoke");
    const expires = typeof values.expires === "string" ? secondsOf(values.expires) : undefined;
    const made = await client.call("createToken", {
      body: {
        name: named(name),
        scope: scopeOf(values.scope ?? "read"),
        ...(expires === undefined ? {} : { expiresIn: expires }),
      },
    });
    print(json ? `${JSON.stringify(made, null, 2)}\n` : `${made.token}\n`);
  },
};
