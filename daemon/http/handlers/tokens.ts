// Tokens for clients over TCP.

import type { Static } from "@sinclair/typebox";
import type { TokenView } from "../../../api-schema/daemon-api.js";
import type { TokenRecord, Tokens } from "../../registry/tokens.js";
import type { Handlers } from "../call.js";

const view = ({ name, scope, created, expires }: TokenRecord): Static<typeof TokenView> => ({
  name,
  scope,
  created: new Date(created).toISOString(),
  ...(expires === undefined ? {} : { expires: new Date(expires).toISOString() }),
});

export const tokenHandlers = (
  tokens: Tokens,
): Pick<Handlers, "listTokens" | "createToken" | "deleteToken"> => ({
  listTokens: () => ({ tokens: tokens.list().map(view) }),
  createToken: ({ body: { name, scope, expiresIn }, log }) => {
    const expires = expiresIn === undefined ? undefined : Date.now() + expiresIn * 1000;
    const { token, record } = tokens.create(name, scope, expires);
    log.info({ token: name, scope }, "a token is made");
    return { ...view(record), token };
  },
  deleteToken: ({ path: { token }, log }) => {
    tokens.remove(token);
    log.info({ token }, "a token is revoked");
    return undefined;
  },
});
