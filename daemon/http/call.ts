// What a handler gets and gives, whichever way the request came: REST, JSON-RPC over HTTP or over a
// WebSocket.
import type { FastifyBaseLogger } from "fastify";
import type { WebSocket } from "ws";
import type {
  BodyOf,
  OperationId,
  Operations,
  PathOf,
  QueryOf,
  ResultOf,
  Scope,
} from "../../api-schema/operations.js";
import type { Attempt } from "./idempotency.js";

/** Who asks. Whoever may open the Unix socket may do all; a token has a scope. */
export type Principal =
  | { readonly kind: "socket"; readonly scope: Scope; readonly uid: number; readonly pid: number }
  | { readonly kind: "token"; readonly scope: Scope; readonly name: string };

/** Over TCP: it may name only files in configured folders. */
export const isRemote = ({ kind }: Principal): boolean => kind === "token";

/** The generations that If-Match allows; undefined: any. */
export type Precondition = number | undefined;

export interface CallContext {
  readonly principal: Principal;
  readonly requestId: string;
  readonly log: FastifyBaseLogger;
  /** Aborted when the client has gone. */
  readonly signal: AbortSignal;
}

export interface Call<Id extends OperationId> extends CallContext {
  readonly path: PathOf<Id>;
  readonly query: QueryOf<Id>;
  readonly body: BodyOf<Id>;
  /** The generation that the client has seen and means; check it with the change, not before. */
  readonly ifMatch: Precondition;
  /** Of a request with an Idempotency-Key. */
  readonly attempt?: Attempt;
}

/** An answer with a status of the row's choice, where it has two. */
export class Reply<T> {
  readonly status: number;
  readonly body: T;
  constructor(status: number, body: T) {
    this.status = status;
    this.body = body;
  }
}

export interface RawReply {
  readonly bytes: Buffer | string;
  /** Where it is not the row's. */
  readonly mediaType?: string;
  /** By the row's own names, not HTTP's. */
  readonly headers?: Readonly<Record<string, string | number>>;
}

export interface ServerEvent<T> {
  /** Grows with every event; Last-Event-ID goes on after it. */
  readonly sequence: number;
  readonly data: T;
}

type Outcomes<Id extends OperationId> = {
  readonly json: ResultOf<Id> | Reply<ResultOf<Id>>;
  readonly nothing: undefined;
  readonly raw: RawReply;
  readonly events: AsyncIterable<ServerEvent<ResultOf<Id>>>;
  /** Runs once the socket is open; what is thrown before is an answer like any other. */
  readonly websocket: (socket: WebSocket) => void;
};

export type Outcome<Id extends OperationId> = Outcomes<Id>[Operations[Id]["answer"]["kind"]];

export type Handler<Id extends OperationId> = (
  call: Call<Id>,
) => Outcome<Id> | Promise<Outcome<Id>>;

/** One function for each row of the table of operations. */
export type Handlers = { readonly [Id in OperationId]: Handler<Id> };
