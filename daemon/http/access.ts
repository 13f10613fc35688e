// Who may talk to the daemon. The Unix socket's mode decides for local clients, who may do all; over
// TCP a bearer token does, and the Host and Origin headers must be ours (DNS rebinding, WebSockets
// of web pages).
import { timingSafeEqual } from "node:crypto";
import type { Socket } from "node:net";
import type { FastifyInstance, FastifyRequest } from "fastify";
import fp from "fastify-plugin";
import { VmError } from "../../api-schema/index.js";
import { descriptorOf, host, type PeerCredentials } from "../../native/host.js";
import { type Tokens, tokenDigest } from "../registry/tokens.js";
import type { Principal } from "./call.js";

declare module "fastify" {
  interface FastifyRequest {
    principal: Principal;
  }
  interface FastifyContextConfig {
    /** No token is asked for. */
    open?: boolean;
  }
}

export interface TcpAccess {
  readonly tokens: Tokens;
  /** The digest of a token that may do all, from a file. */
  readonly fileToken: Buffer | undefined;
  /** What Host may name, without the port. */
  readonly hosts: ReadonlySet<string>;
}

const UNKNOWN: PeerCredentials = { uid: -1, gid: -1, pid: -1 };

/** Who is at the other end. */
export function peerOf(socket: Socket): PeerCredentials {
  const fd = descriptorOf(socket);
  try {
    return fd === undefined ? UNKNOWN : host().peerCredentials(fd);
  } catch {
    return UNKNOWN; // it has gone already
  }
}

/** Local clients: known by their credentials, which are asked for once a connection, and logged. */
export const socketAccess = fp(
  async (app: FastifyInstance) => {
    const peers = new WeakMap<Socket, Principal>();
    app.server.on("connection", (socket: Socket) => {
      const { uid, gid, pid } = peerOf(socket);
      peers.set(socket, { kind: "socket", scope: "admin", uid, pid });
      app.log.debug({ uid, gid, pid }, "a local client");
    });
    app.decorateRequest("principal");
    app.addHook("onRequest", async (request) => {
      const { uid, pid } = UNKNOWN;
      const unknown: Principal = { kind: "socket", scope: "admin", uid, pid };
      request.principal = peers.get(request.raw.socket) ?? unknown;
    });
  },
  { name: "access" },
);

export const tcpAccess = fp(
  async (app: FastifyInstance, access: TcpAccess) => {
    const failures = new FailureLimit();
    app.decorateRequest("principal");
    app.addHook("onRequest", async (request) => {
      requireOwnNames(request, access.hosts);
      if (request.routeOptions.config.open === true) {
        request.principal = { kind: "token", scope: "read", name: "" };
        return;
      }
      const principal = principalOf(request.headers.authorization, access);
      if (principal === undefined) throw failures.refusal(request.ip);
      request.principal = principal;
    });
  },
  { name: "access" },
);

function principalOf(
  authorization: string | undefined,
  { tokens, fileToken }: TcpAccess,
): Principal | undefined {
  const given = /^Bearer ([\x21-\x7e]{1,512})$/i.exec(authorization ?? "")?.[1];
  if (given === undefined) return undefined;
  if (fileToken !== undefined && timingSafeEqual(tokenDigest(given), fileToken))
    return { kind: "token", scope: "admin", name: "(file)" };
  const found = tokens.find(given);
  return found && { kind: "token", scope: found.scope, name: found.name };
}

/** Host without its port: a name, an IPv4 address, or an IPv6 address in brackets. */
const nameOf = (authority: string): string =>
  authority
    .replace(/:[0-9]+$/, "")
    .replace(/^\[(.*)\]$/, "$1")
    .toLowerCase();

function requireOwnNames({ headers, protocol }: FastifyRequest, hosts: ReadonlySet<string>): void {
  const authority = headers.host ?? "";
  if (!hosts.has(nameOf(authority)))
    throw new VmError("HOST_NOT_ALLOWED", ["host", authority.slice(0, 100)]);
  const { origin } = headers;
  if (origin !== undefined && origin.toLowerCase() !== `${protocol}://${authority.toLowerCase()}`)
    throw new VmError("HOST_NOT_ALLOWED", ["origin", origin.slice(0, 100)]);
}

const FAILURES = 20;
const WINDOW_MS = 10_000;
/** Addresses that are remembered; beyond, all are forgotten at once. */
const MAX_ADDRESSES = 4096;

/** After so many wrong tokens from one address it is told to wait. Right ones are always taken. */
export class FailureLimit {
  readonly #seen = new Map<string, { count: number; until: number }>();

  refusal(address: string, now = Date.now()): VmError {
    const entry = this.#seen.get(address);
    if (entry === undefined || entry.until <= now) {
      if (this.#seen.size >= MAX_ADDRESSES) this.#seen.clear();
      this.#seen.set(address, { count: 1, until: now + WINDOW_MS });
      return new VmError("UNAUTHORIZED");
    }
    entry.count++;
    return entry.count > FAILURES
      ? new VmError("RATE_LIMITED", [address])
      : new VmError("UNAUTHORIZED");
  }
}
