// The console: history by offset, and the WebSocket both ways, with real guests.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { WebSocket } from "ws";
import { ConsoleNotice, parse } from "../api-schema/index.js";
import { eventually, TestDaemon } from "../test/daemon/daemon.js";
import { PERIOD } from "../test/daemon/guests.js";

let daemon: TestDaemon;
beforeAll(async () => {
  daemon = await TestDaemon.start();
});
afterAll(() => daemon.end());

interface Stream {
  readonly socket: WebSocket;
  readonly notices: ConsoleNotice[];
  output(): Buffer;
  closed: Promise<number>;
}

function open(path: string): Stream {
  const socket = daemon.client.stream(path);
  const notices: ConsoleNotice[] = [];
  const parts: Buffer[] = [];
  socket.on("message", (data: Buffer, binary: boolean) => {
    if (binary) parts.push(data);
    else notices.push(parse(ConsoleNotice, JSON.parse(data.toString())));
  });
  socket.on("error", () => {});
  const closed = new Promise<number>((resolve) => socket.once("close", resolve));
  return { socket, notices, closed, output: () => Buffer.concat(parts) };
}

/** The first place where a counting guest's output is not what it should be; -1: nowhere. */
const flaw = (bytes: Buffer, offset: number): number =>
  bytes.findIndex((byte, index) => byte !== (offset + index) % PERIOD);

const end = async (name: string): Promise<number> => {
  const { headers } = await daemon.client.raw("GET", `/vms/${name}/console?length=1`);
  return Number(headers["x-console-end"]);
};

describe("the history", () => {
  it("is addressed by byte offset, from either end, also when the VM is off", async () => {
    await daemon.create("history", "powerOff");
    await daemon.start("history", "stopped");
    const read = async (query: string) => {
      const { headers, body } = await daemon.client.raw("GET", `/vms/history/console${query}`);
      const [offset, first, last] = ["offset", "first", "end"].map((name) =>
        Number(headers[`x-console-${name}`]),
      );
      return { text: body.toString(), offset, first, last };
    };
    expect(await read("")).toEqual({ text: "bye\r\n", offset: 0, first: 0, last: 5 });
    expect(await read("?offset=1&length=2")).toEqual({ text: "ye", offset: 1, first: 0, last: 5 });
    expect(await read("?offset=-3")).toEqual({ text: "e\r\n", offset: 2, first: 0, last: 5 });
    expect(await read("?offset=-99")).toMatchObject({ text: "bye\r\n", offset: 0 });
    expect(await read("?offset=99")).toEqual({ text: "", offset: 5, first: 0, last: 5 });
  });

  it("is refused in parts that make no sense", async () => {
    await daemon.create("parts", "hello");
    for (const query of ["offset=x", "length=0", "length=262145", "offset=1.5", "from=1"]) {
      const problem = await daemon.refusal("GET", `/vms/parts/console?${query}`);
      expect(problem).toMatchObject({ status: 400, code: "REQUEST_INVALID" });
      expect(problem.detail).toContain(`query.${query.split("=")[0]}`);
    }
  });
});

describe("the stream", () => {
  it("brings what was typed to the guest, and its answer back", async () => {
    await daemon.run("echo", "echo");
    const { socket, output, notices, closed } = open("/vms/echo/console/stream?offset=0");
    await eventually(() => output().includes("ready\r\n"));
    socket.send(Buffer.from("text, "));
    socket.send(Buffer.from([0, 255, 10]));
    await eventually(() => output().equals(Buffer.from("ready\r\ntext, \0\xff\n", "latin1")));
    expect(notices).toEqual([{ kind: "start", offset: 0 }]);
    await daemon.client.json("POST", "/vms/echo/stop");
    expect(await closed).toBe(1000);
    expect(notices.at(-1)).toEqual({ kind: "ended" });
  });

  it("takes input faster than the guest reads it, and loses none", async () => {
    await daemon.run("paste", "echo");
    const { socket, output } = open("/vms/paste/console/stream?offset=0");
    await eventually(() => output().includes("ready\r\n"));
    const sent = Buffer.from(Array.from({ length: 80_000 }, (_, index) => index % PERIOD));
    for (let at = 0; at < sent.length; at += 65_536) socket.send(sent.subarray(at, at + 65_536));
    await eventually(() => output().length === sent.length + 7, 120);
    expect(output().subarray(7).equals(sent)).toBe(true);
    socket.close();
    await daemon.client.json("POST", "/vms/paste/stop");
  });

  it("begins now where no offset is given, and goes on over a reset", async () => {
    await daemon.run("live", "reset");
    await eventually(async () => (await end("live")) > 0);
    const { socket, output, notices } = open("/vms/live/console/stream");
    await eventually(() => output().length >= 14);
    expect(notices[0]).toMatchObject({ kind: "start" });
    expect(output().toString()).toMatch(/^(again\r\n)+/);
    socket.close();
    await daemon.client.json("POST", "/vms/live/stop");
  });

  it("of a VM that is off ends after its history", async () => {
    await daemon.create("off", "powerOff");
    await daemon.start("off", "stopped");
    const { output, notices, closed } = open("/vms/off/console/stream?offset=0");
    expect(await closed).toBe(1000);
    expect(output().toString()).toBe("bye\r\n");
    expect(notices.map(({ kind }) => kind)).toEqual(["start", "ended"]);
  });

  it("drops who stops reading, tells where to go on, and the guest does not wait", async () => {
    await daemon.run("flood", "flood");
    const slow = open("/vms/flood/console/stream?offset=0");
    const fast = open("/vms/flood/console/stream?offset=0");
    await eventually(() => slow.output().length > 0);
    slow.socket.pause();
    const before = await end("flood");
    await eventually(() => daemon.output.includes("a console reader is dropped"), 120);
    // More than a connection holds, while this one takes nothing.
    await eventually(async () => (await end("flood")) - before > 500_000, 120);
    slow.socket.resume();
    expect(await slow.closed).toBe(1013);
    const last = slow.notices.at(-1);
    expect(last?.kind).toBe("dropped");
    const offset = last?.kind === "dropped" ? last.offset : -1;
    expect(slow.output().length).toBe(offset);
    expect(flaw(slow.output(), 0)).toBe(-1);

    const again = open(`/vms/flood/console/stream?offset=${offset}`);
    await eventually(() => again.output().length > 100_000);
    expect(flaw(again.output(), offset)).toBe(-1);
    expect(fast.socket.readyState).toBe(WebSocket.OPEN);
    await eventually(() => fast.output().length > offset);
    expect(flaw(fast.output(), 0)).toBe(-1);
    await daemon.client.json("POST", "/vms/flood/stop");
    await Promise.all([again.closed, fast.closed]);
  });

  it("refuses before the upgrade what cannot be followed", async () => {
    await daemon.create("mute", "hello", { serial: { com1: { backend: "none" } } });
    const refused = (path: string): Promise<number | undefined> =>
      new Promise((resolve) => {
        const socket = daemon.client.stream(path);
        socket.on("error", () => {});
        socket.on("unexpected-response", (_request, { statusCode }) => resolve(statusCode));
      });
    expect(await refused("/vms/nobody/console/stream")).toBe(404);
    expect(await refused("/vms/mute/console/stream")).toBe(409);
    expect(await refused("/vms/mute/console/stream?offset=x")).toBe(400);
    const plain = await daemon.refusal("GET", "/vms/history/console/stream");
    expect(plain).toMatchObject({ status: 426, code: "UPGRADE_REQUIRED" });
  });

  it("ends a client that breaks the protocol, and nobody else", async () => {
    await daemon.run("frames", "echo");
    const good = open("/vms/frames/console/stream?offset=0");
    const big = open("/vms/frames/console/stream");
    await eventually(() => good.output().includes("ready"));
    await eventually(() => big.notices.length > 0);
    big.socket.send(Buffer.alloc(65_537));
    expect(await big.closed).toBe(1009); // RFC 6455 §7.4.1: too big
    const raw = open("/vms/frames/console/stream");
    await new Promise((resolve) => raw.socket.once("open", resolve));
    // Reserved opcode 0xF, not masked (RFC 6455 §5.1, §5.2).
    (raw.socket as unknown as { _socket: { write(bytes: Buffer): void } })._socket.write(
      Buffer.from([0x8f, 0x02, 0x00, 0x00]),
    );
    expect([1002, 1006]).toContain(await raw.closed);
    const mute = open("/vms/frames/console/stream");
    await eventually(() => mute.notices.length > 0);
    mute.socket.send(JSON.stringify({ kind: "resize", columns: 80, rows: 24 }));
    mute.socket.send(JSON.stringify({ kind: "resize", columns: 80, rows: 65_536 }));
    expect(await mute.closed).toBe(1007); // no data of the kind that was announced
    good.socket.send(Buffer.from("x"));
    await eventually(() => good.output().toString().endsWith("x"));
    good.socket.close();
    await daemon.client.json("POST", "/vms/frames/stop");
  });
});
