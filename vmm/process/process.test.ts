import {
  existsSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { FakeMachine } from "../fakes.js";
import { multibootHeader } from "../loaders/fakes.js";
import { allows } from "./fake-sandbox.js";
import { type ProcessHost, runProcess } from "./run.js";

/** The default second is short on a busy host. */
const waitFor = <T>(look: () => T | Promise<T>): Promise<T> => vi.waitFor(look, 30_000);

const BASE = 0x100000;
const UUID = "01234567-89ab-cdef-0123-456789abcdef";
let folder: string;
let machine: FakeMachine;
let locked: boolean;
/** What the process gave up its rights with; thrown by the host where it is an Error. */
let confined: string[];
let unconfinable: Error | undefined;
let ended: Promise<number> | undefined;

const processHost: ProcessHost = {
  lockFile: () => true,
  tryLock: () => !locked,
  receiveDescriptors: () => undefined,
  openPty: () => {
    throw new Error("no terminals here");
  },
  become: () => {},
  confine: (profile) => {
    if (unconfinable) throw unconfinable;
    confined.push(profile());
  },
  createMachine: () => machine,
  version: "1.2.3",
};

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "xvm-"));
  machine = new FakeMachine(4 * 2 ** 20);
  locked = false;
  confined = [];
  unconfinable = undefined;
  ended = undefined;
  const header = multibootHeader(0x10000, [BASE, BASE, 0, 0, BASE + 32]);
  writeFileSync(join(folder, "kernel"), Buffer.concat([header, new Uint8Array(64)]));
});

afterEach(async () => {
  machine.tell({ kind: "halted" });
  await ended?.catch(() => {});
  rmSync(folder, { recursive: true });
});

function launch(more: object = {}, definition: object = {}): Promise<number> {
  const boot = { kind: "multiboot", kernel: join(folder, "kernel") };
  const vm = { name: "test", uuid: UUID, memory: 4 * 2 ** 20, boot, ...definition };
  const file = { nonce: "abc", definition: vm, ...more };
  writeFileSync(join(folder, "launch.json"), JSON.stringify(file));
  ended = runProcess(folder, processHost);
  ended.catch(() => {});
  return ended;
}

const status = () => JSON.parse(readFileSync(join(folder, "status.json"), "utf8"));

interface Message {
  readonly id?: number;
  readonly method?: string;
  readonly params?: Record<string, unknown>;
  readonly result?: Record<string, unknown>;
  readonly error?: { code: number; message: string; data?: { code: string } };
}

class Client {
  readonly messages: Message[] = [];
  readonly socket: Socket;
  #next = 100;
  #text = "";

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on("error", () => {});
    socket.on("data", (chunk) => {
      const lines = (this.#text + chunk.toString()).split("\n");
      this.#text = lines.pop() ?? "";
      for (const line of lines) this.messages.push(JSON.parse(line));
    });
  }

  static async open(): Promise<Client> {
    const path = join(folder, "vm.sock");
    await waitFor(() => expect(statSync(path).isSocket()).toBe(true));
    return new Promise((resolve) => {
      const socket = connect(path, () => resolve(new Client(socket)));
    });
  }

  async call(method: string, params?: object): Promise<Message> {
    const id = this.#next++;
    this.socket.write(`${JSON.stringify({ jsonrpc: "2.0", id, method, params })}\n`);
    return this.find((message) => message.id === id);
  }

  find(test: (message: Message) => boolean): Promise<Message> {
    return waitFor(() => {
      const found = this.messages.find(test);
      if (found === undefined)
        throw new Error(`not among ${JSON.stringify(this.messages).slice(0, 1000)}`);
      return found;
    });
  }
}

describe("a VM process", () => {
  it("says who it is, and refuses another protocol", async () => {
    launch();
    const client = await Client.open();
    expect((await client.call("hello", { protocol: 1 })).result).toEqual({
      protocol: 1,
      version: "1.2.3",
      pid: process.pid,
      nonce: "abc",
      name: "test",
      uuid: UUID,
    });
    const other = await client.call("hello", { protocol: 4 });
    expect(other.error?.data?.code).toBe("PROTOCOL_MISMATCH");
  });

  it("tells greeted clients of every change, and status.json the last one", async () => {
    const exit = launch({ start: false });
    const [greeted, silent] = [await Client.open(), await Client.open()];
    await greeted.call("hello", { protocol: 1 });
    await greeted.call("start");
    machine.bus.out(0x404, 0x3400, 2);
    expect(await exit).toBe(1);
    const last = { state: "stopped", reason: "guest power-off", exitStatus: 1 };
    await greeted.find(({ params }) => params?.state === "stopped");
    const states = greeted.messages.filter(({ method }) => method === "stateChanged");
    expect(states.map(({ params }) => params?.state)).toEqual([
      "starting",
      "running",
      "stopping",
      "stopped",
    ]);
    expect(silent.messages).toEqual([]);
    expect(status()).toMatchObject({ nonce: "abc", pid: process.pid, status: last });
  });

  it("answers for state, statistics and registers", async () => {
    launch();
    const client = await Client.open();
    await waitFor(async () => {
      const { result } = await client.call("state");
      expect(result).toMatchObject({ status: { state: "running" }, acpiEnabled: false });
    });
    expect((await client.call("statistics")).result).toMatchObject({
      vcpus: [{ instructions: 1 }],
    });
    expect((await client.call("registers", { vcpu: 0 })).error?.data?.code).toBe(
      "VM_STATE_FORBIDS",
    );
    await client.call("pause");
    expect((await client.call("registers", { vcpu: 0 })).result).toMatchObject({
      version: 1,
      state: { rip: BASE + 32 },
    });
  });

  it("keeps the console: history by offset, followers, input", async () => {
    launch();
    const [reader, follower] = [await Client.open(), await Client.open()];
    await reader.call("state");
    expect((await follower.call("consoleFollow", { follow: true })).result).toEqual({ end: 0 });
    for (const char of "hello") machine.bus.out(0x3f8, char.charCodeAt(0));
    const data = await follower.find(({ method }) => method === "consoleData");
    expect(data.params).toEqual({ offset: 0, data: Buffer.from("hello").toString("base64") });
    const { result } = await reader.call("consoleRead", { offset: 1, length: 100 });
    expect(result).toEqual({
      offset: 1,
      data: Buffer.from("ello").toString("base64"),
      start: 0,
      end: 5,
    });
    const input = Buffer.from("x").toString("base64");
    expect((await reader.call("consoleWrite", { data: input })).result).toEqual({ accepted: 1 });
    expect(machine.bus.in(0x3f8)).toBe("x".charCodeAt(0));
  });

  it("has no console where no port is one", async () => {
    launch({}, { serial: { com1: { backend: "none" } } });
    const client = await Client.open();
    const { error } = await client.call("consoleRead", { offset: 0, length: 1 });
    expect(error?.data?.code).toBe("CONSOLE_NONE");
  });

  it("drops a follower that does not read, with a notice, and goes on", async () => {
    launch();
    const [slow, other] = [await Client.open(), await Client.open()];
    await slow.call("consoleFollow", { follow: true });
    slow.socket.pause();
    for (let round = 0; round < 3 * 2 ** 20; round++) {
      machine.bus.out(0x3f8, 0x41);
      if (round % 65536 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    await waitFor(async () =>
      expect((await other.call("state")).result).toMatchObject({ consoleEnd: 3 * 2 ** 20 }),
    );
    slow.socket.resume();
    const notice = await slow.find(({ method }) => method === "consoleDropped");
    expect(notice.params?.reason).toBe("the reader is too slow");
  });
});

describe("what a client sends", () => {
  it.each([
    ["nonsense", -32700],
    ["[]", -32600],
    ["{}", -32600],
    ['{"jsonrpc":"1.0","id":1,"method":"state"}', -32600],
    ['{"jsonrpc":"2.0","id":{},"method":"state"}', -32600],
    ['{"jsonrpc":"2.0","id":1,"method":"toString"}', -32601],
    ['{"jsonrpc":"2.0","id":1,"method":"state","params":{"x":1}}', -32602],
    ['{"jsonrpc":"2.0","id":1,"method":"state","params":[]}', -32602],
    ['{"jsonrpc":"2.0","id":1,"method":"consoleRead","params":{"offset":-1,"length":1}}', -32602],
    ['{"jsonrpc":"2.0","id":1,"method":"consoleWrite","params":{"data":"\\u0000"}}', -32602],
  ])("is refused: %s", async (line, code) => {
    launch();
    const client = await Client.open();
    client.socket.write(`${line}\n`);
    expect((await client.find(() => true)).error?.code).toBe(code);
    expect((await client.call("state")).result).toBeDefined();
  });

  it("may come in pieces, several at once, and before it hangs up", async () => {
    launch();
    const client = await Client.open();
    const text = `{"jsonrpc":"2.0","id":1,"method":"state"}\n{"jsonrpc":"2.0","id":2,"method":"state"}\n`;
    client.socket.write(text.slice(0, 20));
    await new Promise((resolve) => setTimeout(resolve, 20));
    client.socket.end(text.slice(20));
    await client.find(({ id }) => id === 2);
    expect(client.messages.map(({ id }) => id)).toEqual([1, 2]);
  });

  it("gets no answer where it asked for none", async () => {
    launch();
    const client = await Client.open();
    client.socket.write('{"jsonrpc":"2.0","method":"nothing"}\n');
    await client.call("state");
    expect(client.messages).toHaveLength(1);
  });

  it("is cut off where a line never ends", async () => {
    launch();
    const client = await Client.open();
    client.socket.write("x".repeat(2 ** 20 + 1));
    const { error } = await client.find(() => true);
    expect(error?.message).toContain("1048576 bytes");
    await waitFor(() => expect(client.socket.destroyed || client.socket.readableEnded).toBe(true));
  });
});

describe("the rights of a VM process", () => {
  it("are given up before the guest's first instruction, for what it still needs", async () => {
    launch({ start: false });
    const client = await Client.open();
    await client.call("hello", { protocol: 1 });
    expect(confined).toHaveLength(1);
    const create = { path: join(realpathSync(folder), "state") };
    expect(allows(confined[0] ?? "", "file-write-create", create)).toBe(true);
    expect(allows(confined[0] ?? "", "process-exec", { path: "/bin/sh" })).toBe(false);
    expect((await client.call("state")).result).toMatchObject({ status: { state: "created" } });
  });

  it("are kept where the launch file says so", async () => {
    launch({ start: false, confine: false });
    await (await Client.open()).call("hello", { protocol: 1 });
    expect(confined).toEqual([]);
  });

  it("that cannot be given up end the VM, with the reason in status.json", async () => {
    unconfinable = new Error("EPERM: operation not permitted, sandbox_init: no version specified");
    await expect(launch()).rejects.toThrow(/cannot give up its rights: .*no version specified/);
    expect(status()).toMatchObject({
      status: { state: "failed", detail: expect.stringContaining("no version specified") },
      error: { code: "CONFINEMENT_FAILED" },
    });
    expect(existsSync(join(folder, "vm.sock"))).toBe(false);
  });
});

describe("a start that cannot be", () => {
  it("is refused while another process holds the folder, and touches nothing", async () => {
    writeFileSync(join(folder, "lock"), "4711");
    locked = true;
    await expect(launch()).rejects.toThrow("another VM process (pid 4711) uses");
    expect(() => status()).toThrow();
  });

  it("is refused where the socket's path is too long", async () => {
    const deep = join(folder, "x".repeat(103));
    await expect(runProcess(deep, processHost)).rejects.toThrow(/has \d+ bytes; .* 103 at most/);
  });

  it("leaves its reason in status.json", async () => {
    await expect(launch({}, { boot: { kind: "linux", kernel: "/none" } })).rejects.toThrow("/none");
    expect(status().status).toMatchObject({
      state: "failed",
      reason: "start failed",
      detail: "/none cannot be read: no such file or directory (ENOENT)",
    });
  });

  it("is refused where launch.json is wrong, with the place", async () => {
    await expect(launch({ colour: 1 })).rejects.toThrow("launch.colour: unexpected property");
    await expect(launch({}, { cpus: 65 })).rejects.toThrow("launch.definition.cpus");
  });
});
