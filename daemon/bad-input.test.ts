// Whatever a client sends: an answer that names what is wrong and what would be right, and nothing
// has changed.
import {
  chmodSync,
  cpSync,
  mkdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import Database from "better-sqlite3";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { WebSocket } from "ws";
import type { VmView } from "../api-schema/index.js";
import { derivedMac } from "../api-schema/mac-addresses.js";
import {
  eventually,
  problemOf,
  rawRequest,
  refusedStart,
  TestDaemon,
  temporaryFolder,
} from "../test/daemon/daemon.js";

const JSON_TYPE = { "content-type": "application/json" };
const GIB = 2 ** 30;
const EIB = 2 ** 60;

let daemon: TestDaemon;
let before: string;
const everything = async (): Promise<string> =>
  JSON.stringify(await daemon.client.json("GET", "/vms"));

beforeAll(async () => {
  daemon = await TestDaemon.start();
  await daemon.run("runs", "hello");
  await daemon.create("off", "hello");
  await daemon.create("wired", "hello", { uuid: WIRED, devices: [card("2:0"), card("3:0", MAC)] });
  before = await everything();
});
afterAll(() => daemon.end());
afterEach(async () => expect(await everything()).toBe(before));

const WIRED = "11111111-2222-4333-8444-555555555555";
const MAC = "02:00:5e:00:53:01";
const card = (slot: string, mac?: string): object => ({
  ...{ slot, type: "virtio-net", backend: { kind: "none" } },
  ...(mac && { mac }),
});

/** A definition that is good but for the change. */
const definition = (change: object): object => ({
  name: "new",
  boot: { kind: "multiboot", kernel: daemon.guestFile("hello") },
  ...change,
});

describe("a definition", () => {
  it.each([
    [{ memory: 0 }, 400, "body.memory", "1048576"],
    [{ memory: EIB }, 400, "body.memory", String(1024 * GIB)],
    [{ memory: "512M" }, 400, "body.memory", "integer"],
    [{ cpus: 0 }, 400, "body.cpus", "1"],
    [{ cpus: 65 }, 400, "body.cpus", "64"],
    [{ colour: "red" }, 400, "body.colour", "unexpected"],
    [{ firmware: { bios: true } }, 400, "body.firmware.bios", "unexpected"],
    [{ name: "a/../../b" }, 400, "body.name", "letters"],
    [{ name: "" }, 400, "body.name", "letters"],
    [{ name: "00000000-0000-4000-8000-00000000000a" }, 400, "body.name", "UUID"],
    [{ uuid: "no" }, 400, "body.uuid", "UUID"],
    [{ name: "runs" }, 409, "runs", "exists"],
    [{ boot: { kind: "linux" } }, 400, "body.boot.kernel", "a path"],
    [{ boot: { kind: "linux", kernel: "vmlinuz" } }, 400, "body.boot.kernel", "absolute"],
    [{ boot: { kind: "linux", kernel: "/k\0" } }, 400, "body.boot.kernel", "NUL"],
    [{ boot: { kind: "bios" } }, 400, "body.boot", ""],
    [{ boot: null }, 400, "body.boot", ""],
    [{ devices: [{ slot: "0:0", type: "fax" }] }, 400, "body.devices.0.type", "lpc"],
    [{ serial: { com1: { backend: "tty" } } }, 400, "body.serial.com1.backend", "console"],
    [{ labels: { A: "b" } }, 400, "body.labels", ""],
  ])("is refused: %j", async (change, status, place, right) => {
    const problem = await daemon.refusal("POST", "/vms", definition(change));
    expect(problem.status).toBe(status);
    expect(problem.detail).toContain(place);
    expect(problem.detail).toContain(right);
  });

  it.each([
    [{ memory: 0 }, 400, "body.memory"],
    [{ colour: 1 }, 400, "body.colour"],
    [{ name: "runs" }, 409, "runs"],
    [{ uuid: "00000000-0000-4000-8000-00000000000a" }, 400, "body.uuid"],
    [{ boot: null }, 400, "body.boot"],
  ])("is not changed so: %j", async (change, status, place) => {
    const problem = await daemon.refusal("PATCH", "/vms/off", change);
    expect(problem.status).toBe(status);
    expect(problem.detail).toContain(place);
  });
});

describe("a network card's address", () => {
  const derived = derivedMac(WIRED, "2:0");

  it.each([
    [[card("2:0", "03:00:5e:00:53:01")], 400, "body.devices.0.mac", "unicast"],
    [[card("2:0", "02:00:5e:00:53")], 400, "body.devices.0.mac", "six bytes"],
    [
      [card("2:0"), card("4:0", MAC.toUpperCase())],
      409,
      "devices[1]",
      "VM wired (its card in slot 3:0)",
    ],
    [[card("2:0", derived)], 409, derived, "VM wired (its card in slot 2:0)"],
    [[card("2:0", "02:0:0:0:0:1")], 400, "body.devices.0.mac", ""],
    [
      [card("2:0", "02:00:5e:00:53:02"), card("3:0", "02:00:5e:00:53:02")],
      409,
      "devices[1]",
      "slot 2:0",
    ],
  ])("is one card's alone, and unicast: %j", async (devices, status, place, right) => {
    for (const [method, path] of [
      ["POST", "/vms"],
      ["PATCH", "/vms/off"],
    ] as const) {
      const body = method === "POST" ? definition({ devices }) : { devices };
      const problem = await daemon.refusal(method, path, body);
      expect(problem.status).toBe(status);
      expect(problem.detail).toContain(place);
      expect(problem.detail).toContain(right);
    }
  });

  const forwarding = (...forwards: object[]): object[] => [
    { slot: "2:0", type: "virtio-net", backend: { kind: "user", forwards } },
  ];
  const ssh = { protocol: "tcp", host: 2222, guest: 22 };
  it.each([
    [[{ ...ssh, host: 0 }], "forwards.0.host", "1"],
    [[{ ...ssh, guest: 65536 }], "forwards.0.guest", "65535"],
    [[{ ...ssh, protocol: "icmp" }], "forwards.0.protocol", "tcp"],
    [[{ ...ssh, address: "example.org" }], "forwards.0.address", "an IPv4 or IPv6 address"],
    [
      [ssh, { ...ssh, address: "999.0.0.1" }],
      "/devices/0/backend/forwards/1",
      "neither IPv4 nor IPv6",
    ],
    [
      [ssh, { ...ssh, address: "127.0.0.1" }],
      "/devices/0/backend/forwards/1",
      "forwards[0]'s already",
    ],
    [[{ ...ssh, "-t": "all" }], "forwards.0.-t", "unexpected"],
  ])("has forwards that can be: %j", async (forwards, place, right) => {
    const problem = await daemon.refusal(
      "POST",
      "/vms",
      definition({ devices: forwarding(...forwards) }),
    );
    expect(problem.status).toBe(400);
    const said = JSON.stringify(problem);
    expect(said).toContain(place);
    expect(said).toContain(right);
  });

  it("is looked at by a dry run, which names the field", async () => {
    const devices = [card("2:0", MAC), { slot: "31:0", type: "lpc" }];
    const body = definition({ devices });
    const { errors } = await daemon.refusal("POST", "/vms?dryRun=true", body);
    expect(errors).toMatchObject([{ pointer: "#/devices/0/mac", code: "NETWORK_MAC_TAKEN" }]);
  });
});

describe("a request", () => {
  it.each(["", "{", "nonsense", '{"name":"new"}}', "\xff\xfe", '{"__proto__":{"a":1}}'])(
    "with the body %j is no JSON that we take",
    async (body) => {
      const problem = problemOf(
        await daemon.raw("POST", "/v1/vms", { headers: JSON_TYPE, body: body === "" ? "" : body }),
      );
      expect(problem.status).toBe(400);
    },
  );

  it.each(["null", "[]", "3", '"x"', "true"])("with the body %s is no object", async (body) => {
    const problem = problemOf(await daemon.raw("POST", "/v1/vms", { headers: JSON_TYPE, body }));
    expect(problem.code).toBe("REQUEST_INVALID");
    expect(problem.detail).toContain("body");
  });

  it("of another content type is told which is right", async () => {
    const headers = { "content-type": "application/x-www-form-urlencoded" };
    const problem = problemOf(await daemon.raw("POST", "/v1/vms", { headers, body: "name=new" }));
    expect(problem).toMatchObject({ status: 415, code: "MEDIA_TYPE" });
    expect(problem.detail).toContain("application/json");
    expect(problem.detail).toContain("x-www-form-urlencoded");
  });

  it("that is too large is not read", async () => {
    const headers = { ...JSON_TYPE, "content-length": String(2 ** 20 + 1) };
    const problem = problemOf(await daemon.raw("POST", "/v1/vms", { headers, body: "{" }));
    expect(problem).toMatchObject({ status: 413, code: "REQUEST_TOO_LARGE" });
    expect(problem.detail).toContain("1048576");
  });

  it("that follows the last one of a connection gets no answer of its own", async () => {
    const socket = connect(daemon.socket);
    let said = "";
    socket.on("data", (data) => {
      said += String(data);
    });
    const closed = new Promise((done) => socket.once("close", done));
    socket.write("GET /v1/vms HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n{}");
    await closed;
    expect(said.match(/^HTTP\/1\.1 \d+/gm)).toEqual(["HTTP/1.1 200"]);
  });

  it("that is deeply nested is refused", async () => {
    const body = `{"name":"new","boot":${"[".repeat(200_000)}${"]".repeat(200_000)}}`;
    expect(
      problemOf(await daemon.raw("POST", "/v1/vms", { headers: JSON_TYPE, body })).status,
    ).toBe(400);
  });

  it.each([
    ["GET", "/nothing", 404],
    ["GET", "/v1", 404],
    ["PUT", "/v1/vms", 405],
    ["OPTIONS", "/v1/vms/off", 405],
    ["GET", "/v1/vms/nobody", 404],
    ["POST", "/v1/vms/nobody/start", 404],
    ["DELETE", "/v1/vms/nobody", 404],
    ["GET", "/v1/vms/..%2f..%2fetc%2fpasswd", 404],
    ["GET", "/v1/vms/%2e%2e/console", 404],
    ["GET", "/v1/vms/__proto__", 404],
    ["GET", "/v1/vms/off%00", 404],
    ["GET", "/v1/vms/%ff", 400],
    ["GET", "/v1/vms/%", 400],
    ["GET", `/v1/vms/${"a".repeat(64)}`, 400],
    ["GET", `/v1/vms/${"a".repeat(5000)}`, 400],
    ["POST", "/v1/vms/off/explode", 404],
    ["POST", "/v1/vms/off/start?wait=happy", 400],
    ["POST", "/v1/vms/off/start?timeout=-1", 400],
    ["POST", "/v1/vms/off/start?when=now", 400],
    ["GET", "/v1/vms/runs/vcpus/-1", 400],
    ["GET", "/v1/vms/runs/vcpus/x", 400],
    ["GET", "/v1/vms/off/statistics", 409],
    ["POST", "/v1/vms/runs/start", 409],
    ["POST", "/v1/vms/off/pause", 409],
    ["POST", "/v1/vms/off/reset", 409],
    ["DELETE", "/v1/vms/runs", 409],
  ])("%s %s is refused with %i", async (method, path, status) => {
    expect(problemOf(await daemon.raw(method, path)).status).toBe(status);
  });

  it("says what a running VM cannot", async () => {
    expect((await daemon.refusal("POST", "/vms/runs/start")).detail).toBe(
      "a VM that is running cannot start",
    );
    expect((await daemon.refusal("PATCH", "/vms/runs", { cpus: 2 })).code).toBe("VM_STATE_FORBIDS");
    expect((await daemon.refusal("POST", "/vms/off/start", { force: true })).detail).toContain(
      "body.force",
    );
  });

  it.each(["\r\n\r\n", "NONSENSE\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "\0\0\0\0\r\n\r\n"])(
    "that is no HTTP gets an answer and no more: %j",
    async (bytes) => {
      const socket = connect(daemon.socket);
      let text = "";
      socket.on("data", (data) => {
        text += data.toString();
      });
      socket.on("error", () => {});
      socket.write(bytes);
      socket.end();
      await new Promise((resolve) => socket.once("close", resolve));
      expect(text === "" || text.startsWith("HTTP/1.1 400")).toBe(true);
    },
  );

  it("with endless headers is cut off", async () => {
    const headers = { "x-long": "a".repeat(100_000) };
    const answer = await daemon.raw("GET", "/v1/vms", { headers }).catch(() => undefined);
    expect([undefined, 400, 431]).toContain(answer?.status);
  });
});

describe("an image", () => {
  const refused = async (
    boot: object,
    more: object = {},
  ): Promise<{ code: string; detail: string }> => {
    const vm = await daemon.client.json<VmView>("POST", "/vms", definition({ boot, ...more }));
    try {
      const problem = await daemon.refusal("POST", "/vms/new/start");
      expect(problem.status).toBe(422);
      expect((await daemon.vm("new")).status.state).toBe("defined");
      expect((await daemon.vm("new")).definition).toEqual(vm.definition);
      return problem;
    } finally {
      await daemon.client.json("DELETE", "/vms/new");
    }
  };

  /** The beginning of a bzImage (Linux x86 boot protocol): one setup sector, protocol 2.15. */
  const bzImage = (change: (image: Buffer) => void = () => {}, size = 8192): Buffer => {
    const image = Buffer.alloc(size);
    image.writeUInt8(1, 0x1f1); // setup_sects
    image.writeUInt32LE((size - 1024) / 16, 0x1f4); // syssize
    image.writeUInt16LE(0xaa55, 0x1fe);
    image.writeUInt16LE(0x66eb, 0x200);
    image.write("HdrS", 0x202);
    image.writeUInt16LE(0x020f, 0x206);
    image.writeUInt8(1, 0x211); // loaded high
    image.writeUInt32LE(0x100000, 0x214); // code32_start
    image.writeUInt32LE(0x7fffffff, 0x22c); // initrd_addr_max
    image.writeUInt32LE(0x200000, 0x230); // kernel_alignment
    image.writeUInt8(1, 0x234);
    image.writeUInt32LE(2047, 0x238); // cmdline_size
    image.writeBigUInt64LE(0x1000000n, 0x258); // pref_address
    image.writeUInt32LE(0x400000, 0x260); // init_size
    change(image);
    return image;
  };

  it("that is no kernel", async () => {
    const kernel = daemon.file("text.txt", "this is no kernel at all\n".repeat(100));
    const linux = await refused({ kind: "linux", kernel });
    expect(linux.code).toBe("KERNEL_UNKNOWN_FORMAT");
    expect(linux.detail).toContain(kernel);
    const multiboot = await refused({ kind: "multiboot", kernel });
    expect(multiboot.code).toBe("MULTIBOOT_NO_HEADER");
    expect(multiboot.detail).toContain(kernel);
  });

  it("that is truncated", async () => {
    const kernel = daemon.file("short", bzImage().subarray(0, 3000));
    const problem = await refused({ kind: "linux", kernel });
    expect(problem.code).toBe("KERNEL_TRUNCATED");
    expect(problem.detail).toContain(kernel);
    expect(problem.detail).toContain("3000");
  });

  it("that is empty, a folder, missing, or not to be read", async () => {
    const empty = daemon.file("empty", "");
    expect((await refused({ kind: "linux", kernel: empty })).detail).toContain(empty);
    expect((await refused({ kind: "linux", kernel: daemon.folder })).detail).toContain(
      daemon.folder,
    );
    const missing = await refused({ kind: "linux", kernel: "/nowhere/vmlinuz" });
    expect(missing.code).toBe("FILE_UNREADABLE");
    expect(missing.detail).toContain("/nowhere/vmlinuz");
    const loop = join(daemon.folder, "loop");
    symlinkSync(loop, loop);
    expect((await refused({ kind: "linux", kernel: loop })).detail).toContain(loop);
    expect((await refused({ kind: "linux", kernel: "/dev/zero" })).detail).toContain("/dev/zero");
  });

  it("that is too big for the memory", async () => {
    const kernel = daemon.file(
      "big",
      bzImage((image) => image.writeUInt32LE(64 * 2 ** 20, 0x260)),
    );
    const problem = await refused({ kind: "linux", kernel }, { memory: 32 * 2 ** 20 });
    expect(problem.code).toBe("KERNEL_DOES_NOT_FIT");
    expect(problem.detail).toContain(kernel);
  });

  it("initrd that does not fit, is empty, or is missing", async () => {
    const kernel = daemon.file("good", bzImage());
    const initrd = daemon.file("initrd", Buffer.alloc(30 * 2 ** 20));
    const memory = 32 * 2 ** 20;
    const problem = await refused({ kind: "linux", kernel, initrd }, { memory });
    expect(problem.code).toBe("INITRD_DOES_NOT_FIT");
    expect(problem.detail).toContain(initrd);
    const missing = await refused({ kind: "linux", kernel, initrd: "/nowhere/initrd" });
    expect(missing.detail).toContain("/nowhere/initrd");
  });

  it("two devices in one slot, a serial port without its bus", async () => {
    const boot = { kind: "multiboot", kernel: daemon.guestFile("hello") };
    const bridge = { slot: "0:0", type: "hostbridge" };
    const twice = { devices: [bridge, { slot: "0:0", type: "lpc" }] };
    expect((await refused(boot, twice)).code).toBe("DEVICE_SLOT_TAKEN");
    expect((await refused(boot, { devices: [bridge] })).code).toBe("SERIAL_NEEDS_LPC");
  });
});

describe("over TCP", () => {
  const TOKEN = "a-token-of-some-length";
  let tcp: TestDaemon;
  let port = 0;

  beforeAll(async () => {
    const folder = temporaryFolder();
    const tokenFile = join(folder, "token");
    writeFileSync(tokenFile, `${TOKEN}\n`);
    tcp = await TestDaemon.start(["--listen", "127.0.0.1:0", "--token-file", tokenFile], folder);
    port = await eventually(() => {
      const found = /http:\/\/127\.0\.0\.1:([0-9]+)/.exec(tcp.output)?.[1];
      return found === undefined ? undefined : Number(found);
    });
  });
  afterAll(() => tcp.end());

  const ask = (headers: Record<string, string>) =>
    rawRequest({ host: "127.0.0.1", port }, "GET", "/v1/vms", { headers });

  it.each([
    {},
    { authorization: "" },
    { authorization: TOKEN },
    { authorization: "Bearer" },
    { authorization: `Basic ${TOKEN}` },
    { authorization: `Bearer ${TOKEN}x` },
    { authorization: `Bearer ${TOKEN.slice(1)}` },
  ])("nothing is answered without the token: %j", async (headers) => {
    const problem = problemOf(await ask(headers as Record<string, string>));
    expect(problem).toMatchObject({ status: 401, code: "UNAUTHORIZED" });
  });

  it("all is answered with it, the console's stream too", async () => {
    const authorization = `Bearer ${TOKEN}`;
    expect((await ask({ authorization })).status).toBe(200);
    await tcp.create("one", "hello");
    const url = `ws://127.0.0.1:${port}/v1/vms/one/console/stream`;
    const status = (headers: object): Promise<number> =>
      new Promise((resolve) => {
        const socket = new WebSocket(url, { headers: { ...headers } });
        socket.on("open", () => resolve(101));
        socket.on("unexpected-response", (_request, { statusCode }) => resolve(statusCode ?? 0));
        socket.on("error", () => {});
      });
    expect(await status({})).toBe(401);
    expect(await status({ authorization: "Bearer nonsense" })).toBe(401);
    expect(await status({ authorization })).toBe(101);
  });
});

describe("a daemon", () => {
  it("is alone on its folders", async () => {
    const { status, text } = await refusedStart(daemon.folder);
    expect(status).toBe(1);
    expect(text).toContain(`another daemon (pid ${daemon.pid}) uses`);
    expect(text).toContain(join(daemon.folder, "state"));
    const sameSocket = ["--state-dir", join(daemon.folder, "other")];
    const second = await refusedStart(daemon.folder, sameSocket);
    expect(second.status).toBe(1);
    expect(second.text).toContain(join(daemon.folder, "run"));
  });

  it("does not touch a database of a newer version", async () => {
    const folder = temporaryFolder();
    const path = join(folder, "state", "registry.db");
    mkdirSync(join(folder, "state"), { mode: 0o700 });
    const db = new Database(path);
    db.exec("CREATE TABLE things (a)");
    db.pragma("user_version = 99");
    db.close();
    cpSync(path, join(folder, "copy.db"));
    const { status, text } = await refusedStart(folder);
    expect(status).toBe(1);
    expect(text).toContain(path);
    expect(text).toMatch(/schema version 99; this daemon knows up to [0-9]+/);
    const after = new Database(path, { readonly: true });
    expect(after.pragma("user_version", { simple: true })).toBe(99);
    expect(after.prepare("SELECT name FROM sqlite_master").pluck().all()).toEqual(["things"]);
    after.close();
    rmSync(folder, { recursive: true });
  });

  it("refuses folders that others may write to, and options that make no sense", async () => {
    const folder = temporaryFolder();
    mkdirSync(join(folder, "run"));
    chmodSync(join(folder, "run"), 0o777);
    expect((await refusedStart(folder)).text).toContain("chmod go-w");
    rmSync(join(folder, "run"), { recursive: true });
    const refused = async (...args: string[]) => (await refusedStart(folder, args)).text;
    expect(await refused("--listen", "0.0.0.0:8006", "--token-file", "/x")).toContain("loopback");
    expect(await refused("--listen", "127.0.0.1:0", "--tls-cert", "/x")).toContain("--tls-key");
    expect(await refused("--socket-mode", "0666")).toContain("0660");
    expect(await refused("--socket-group", "no-such-group")).toContain("no-such-group");
    expect(await refused("--listen", "nonsense", "--token-file", "/x")).toContain("HOST:PORT");
    expect(await refused("--listen", "127.0.0.1:0", "--token-file", "/none")).toContain("/none");
    expect(await refused("--colour", "red")).toContain("--colour");
    expect(await refused("--log-level", "loud")).toContain("loud");
    expect(await refused("--socket", `/tmp/${"s".repeat(120)}`)).toContain("103");
    rmSync(folder, { recursive: true });
  });

  it("listens where only its user can connect", () => {
    expect(statSync(daemon.socket).mode & 0o777).toBe(0o600);
    expect(statSync(join(daemon.folder, "state")).mode & 0o777).toBe(0o700);
  });
});
