// JSON-RPC 2.0 as the daemon speaks it: at POST /rpc and over a WebSocket at the same path.
import { type Static, Type } from "@sinclair/typebox";
import { closed } from "./shape.js";

export const RPC_PATH = "/rpc";
/** Requests in one batch. */
export const MAX_BATCH = 100;

const Id = Type.Union([Type.String({ maxLength: 256 }), Type.Number(), Type.Null()]);

/** Without an `id` it is a notification: it is carried out and not answered (§4.1). */
export const RpcRequest = closed(
  {
    jsonrpc: Type.Literal("2.0"),
    method: Type.String({ maxLength: 100 }),
    params: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
    id: Type.Optional(Id),
  },
  { $id: "RpcRequest" },
);

export const RpcBody = Type.Union(
  [RpcRequest, Type.Array(RpcRequest, { minItems: 1, maxItems: MAX_BATCH })],
  { $id: "RpcBody" },
);

/** `data` is the problem document that REST would answer with. */
export const RpcResponse = Type.Object(
  {
    jsonrpc: Type.Literal("2.0"),
    id: Id,
    result: Type.Optional(Type.Unknown()),
    error: Type.Optional(
      Type.Object({
        code: Type.Integer(),
        message: Type.String(),
        data: Type.Optional(Type.Unknown()),
      }),
    ),
  },
  { $id: "RpcResponse" },
);

export const RpcReply = Type.Union([RpcResponse, Type.Array(RpcResponse)], { $id: "RpcReply" });

export type RpcRequest = Static<typeof RpcRequest>;
export type RpcResponse = Static<typeof RpcResponse>;
