// JSON-RPC 2.0, over HTTP and over a WebSocket: the same operations, the same refusals.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { WebSocket } from "ws";
import type { Problem } from "../api-schema/index.js";
import type { RpcResponse } from "../api-schema/rpc.js";
import { TestDaemon } from "../test/daemon/daemon.js";

let daemon: TestDaemon;

beforeAll(async () => {
  daemon = await TestDaemon.start();
  await daemon.create("off", "hello");
});
afterAll(() => daemon.end());

const post = (body: string): ReturnType<TestDaemon["raw"]> =>
  daemon.raw("POST", "/rpc", { headers: { "content-type": "application/json" }, body });

const rpc = async <T = RpcResponse>(message: unknown): Promise<T> => {
  const { status, text } = await post(JSON.stringify(message));
  expect(status).toBe(200);
  return JSON.parse(text) as T;
};

const call = (method: string, params?: object, id: unknown = 1): object => ({
  jsonrpc: "2.0",
  method,
  ...(params === undefined ? {} : { params }),
  id,
});
const notification = (method: string, params: object): object => ({
  jsonrpc: "2.0",
  method,
  params,
});

describe("a request", () => {
  it("is answered as REST answers", async () => {
    const { result } = await rpc(call("getVm", { vm: "off" }));
    expect(result).toEqual(await daemon.vm("off"));
    const { result: list } = await rpc(call("listVms"));
    expect(list).toEqual(await daemon.client.json("GET", "/vms"));
  });

  it("creates, changes at a generation, and deletes", async () => {
    const boot = { kind: "multiboot", kernel: daemon.guestFile("hello") };
    const made = await rpc(call("createVm", { body: { name: "made", boot } }));
    expect(made.result).toMatchObject({ name: "made", generation: 1 });
    const stale = await rpc(call("changeVm", { vm: "made", ifMatch: 7, body: { cpus: 2 } }));
    expect(stale.error).toMatchObject({ code: -32000, data: { code: "VM_CHANGED", status: 412 } });
    const changed = await rpc(call("changeVm", { vm: "made", ifMatch: 1, body: { cpus: 2 } }));
    expect(changed.result).toMatchObject({ generation: 2, definition: { cpus: 2 } });
    expect(await rpc(call("deleteVm", { vm: "made" }, "x"))).toEqual({
      jsonrpc: "2.0",
      id: "x",
      result: null,
    });
  });

  it("has its problem document in the error", async () => {
    const { error } = await rpc(call("pauseVm", { vm: "off" }));
    expect(error).toMatchObject({
      code: -32000,
      data: { code: "VM_STATE_FORBIDS", status: 409, state: "defined" },
    });
    expect((error?.data as Problem | undefined)?.actions).toContain("start");
    const many = await rpc(call("readConsole", { vm: "off", offset: "x", length: 0, colour: 1 }));
    expect(many.error).toMatchObject({ code: -32602, data: { code: "REQUEST_INVALID" } });
    const problem = many.error?.data as Problem | undefined;
    expect(problem?.errors?.map(({ pointer }) => pointer).sort()).toEqual([
      "#/colour",
      "#/length",
      "#/offset",
    ]);
  });

  it.each([
    ["nonsense", -32700],
    ["", -32700],
    ["[]", -32600],
    ["1", -32600],
    ['{"jsonrpc":"1.0","method":"listVms","id":1}', -32600],
    ['{"jsonrpc":"2.0","method":"listVms","params":[1],"id":1}', -32600],
    ['{"jsonrpc":"2.0","method":"toString","id":1}', -32601],
    ['{"jsonrpc":"2.0","method":"streamConsole","params":{"vm":"off"},"id":1}', -32601],
    ['{"jsonrpc":"2.0","method":"getVm","id":1}', -32602],
  ])("that is not one gets an error of JSON-RPC: %s", async (body, code) => {
    const { status, text } = await post(body);
    expect(status).toBe(200);
    expect(JSON.parse(text)).toMatchObject({ jsonrpc: "2.0", error: { code } });
  });

  it("in a batch is answered in order; notifications are not", async () => {
    const answers = await rpc<RpcResponse[]>([
      call("getVm", { vm: "off" }, 1),
      notification("getVm", { vm: "nobody" }),
      call("getVm", { vm: "nobody" }, 2),
      7,
    ]);
    expect(answers.map(({ id }) => id)).toEqual([1, 2, null]);
    expect(answers[0]?.result).toBeDefined();
    expect(answers[1]?.error?.data).toMatchObject({ code: "VM_NOT_FOUND" });
    expect((await post(JSON.stringify(notification("listVms", {})))).status).toBe(204);
    const tooMany = Array.from({ length: 101 }, () => call("listVms"));
    expect((await rpc(tooMany)).error?.code).toBe(-32600);
  });
});

describe("a WebSocket", () => {
  const open = async (): Promise<WebSocket> => {
    const socket = new WebSocket(`ws+unix:${daemon.socket}:/rpc`);
    await new Promise((resolve, reject) => socket.once("open", resolve).once("error", reject));
    return socket;
  };
  const next = (socket: WebSocket): Promise<unknown> =>
    new Promise((resolve) =>
      socket.once("message", (data: Buffer) => resolve(JSON.parse(data.toString()))),
    );

  it("answers many requests in their order", async () => {
    const socket = await open();
    const answers: RpcResponse[] = [];
    const all = new Promise<void>((resolve) =>
      socket.on("message", (data: Buffer) => {
        answers.push(JSON.parse(data.toString()) as RpcResponse);
        if (answers.length === 20) resolve();
      }),
    );
    for (let id = 0; id < 20; id++) socket.send(JSON.stringify(call("getVm", { vm: "off" }, id)));
    await all;
    expect(answers.map(({ id }) => id)).toEqual(Array.from({ length: 20 }, (_, id) => id));
    socket.close();
  });

  it("survives nonsense, and closes on what is no text", async () => {
    const socket = await open();
    socket.send("nonsense");
    expect(await next(socket)).toMatchObject({ error: { code: -32700 } });
    const closed = new Promise((resolve) => socket.once("close", resolve));
    socket.send(Buffer.from([1, 2, 3]));
    expect(await closed).toBe(1003);
  });

  it("without an upgrade is told so", async () => {
    expect((await daemon.raw("GET", "/rpc")).status).toBe(426);
  });
});
