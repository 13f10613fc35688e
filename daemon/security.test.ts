// Who may do what, and that nobody keeps the daemon from serving the others.
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from "node:fs";
import { request as httpsRequest } from "node:https";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { Kind, type TSchema } from "@sinclair/typebox";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { WebSocket } from "ws";
import { HOST_PATH } from "../api-schema/host-paths.js";
import { VmDefinition } from "../api-schema/index.js";
import { methodAndPath, operationIds, specOf } from "../api-schema/operations.js";
import {
  eventually,
  problemOf,
  type RawAnswer,
  rawRequest,
  TestDaemon,
  temporaryFolder,
} from "../test/daemon/daemon.js";

const portOf = (daemon: TestDaemon): Promise<number> =>
  eventually(() => {
    const found = /https?:\/\/127\.0\.0\.1:([0-9]+)/.exec(daemon.output)?.[1];
    return found === undefined ? undefined : Number(found);
  });

describe("tokens", () => {
  let daemon: TestDaemon;
  let port = 0;
  const tokens: Record<string, string> = {};

  beforeAll(async () => {
    daemon = await TestDaemon.start(["--listen", "127.0.0.1:0"]);
    port = await portOf(daemon);
    for (const scope of ["read", "operate", "admin"] as const)
      tokens[scope] = (
        await daemon.client.call("createToken", { body: { name: scope, scope } })
      ).token;
    await daemon.create("off", "hello");
  });
  afterAll(() => daemon.end());

  const ask = (
    method: string,
    path: string,
    headers: Record<string, string> = {},
    body?: string,
  ): Promise<RawAnswer> =>
    rawRequest({ host: "127.0.0.1", port }, method, path, {
      headers: {
        ...headers,
        ...(body === undefined ? {} : { "content-type": "application/json" }),
      },
      ...(body === undefined ? {} : { body }),
    });
  const bearer = (scope: string) => ({ authorization: `Bearer ${tokens[scope]}` });
  const everything = async (): Promise<string> =>
    JSON.stringify([
      await daemon.client.json("GET", "/vms"),
      await daemon.client.json("GET", "/tokens"),
    ]);
  const pathOf = (template: string): string =>
    template
      .replace("{vm}", "off")
      .replace("{vcpu}", "0")
      .replace("{token}", "admin")
      .replace(/\{[a-z]+\}/g, "x");

  it("of scope read change nothing, whatever is asked, by REST and by JSON-RPC", async () => {
    const before = await everything();
    for (const id of operationIds) {
      const spec = specOf(id);
      if (spec.answer.kind === "events") continue; // never ends, and has a scope like the others
      const [method, template] = methodAndPath(spec);
      const body = spec.body === undefined ? undefined : "{}";
      const answer = await ask(method, pathOf(template), bearer("read"), body);
      const refused = spec.scope === "operate" || spec.scope === "admin";
      expect([id, answer.status === 403]).toEqual([id, refused]);
      if (refused) expect(problemOf(answer).code).toBe("FORBIDDEN");
      const call = { jsonrpc: "2.0", id: 1, method: id, params: { vm: "off", token: "admin" } };
      const rpc = await ask("POST", "/rpc", bearer("read"), JSON.stringify(call));
      if (refused && spec.answer.kind !== "websocket") expect(rpc.text).toContain('"FORBIDDEN"');
    }
    expect(await everything()).toBe(before);
  });

  it("of scope operate start and stop, and define nothing", async () => {
    expect((await ask("POST", "/v1/vms/off/start", bearer("operate"))).status).toBe(200);
    expect((await ask("POST", "/v1/vms/off/stop", bearer("operate"))).status).toBe(200);
    expect((await ask("DELETE", "/v1/vms/off", bearer("operate"))).status).toBe(403);
    expect((await ask("GET", "/v1/tokens", bearer("operate"))).status).toBe(403);
  });

  it("are shown without their secrets, expire, and can be revoked", async () => {
    const list = await ask("GET", "/v1/tokens", bearer("admin"));
    expect(list.status).toBe(200);
    for (const token of Object.values(tokens)) expect(list.text).not.toContain(token.slice(-20));
    const short = await daemon.client.call("createToken", {
      body: { name: "short", scope: "read", expiresIn: 1 },
    });
    const headers = { authorization: `Bearer ${short.token}` };
    const { status } = await ask("GET", "/v1/vms", headers);
    if (Date.now() < Date.parse(short.expires ?? "")) expect(status).toBe(200);
    await eventually(async () => (await ask("GET", "/v1/vms", headers)).status === 401);
    await daemon.client.call("createToken", { body: { name: "gone", scope: "read" } });
    await daemon.client.call("deleteToken", { token: "gone" });
    expect((await daemon.refusal("DELETE", "/tokens/gone")).code).toBe("TOKEN_NOT_FOUND");
    expect((await daemon.refusal("POST", "/tokens", { name: "read", scope: "read" })).code).toBe(
      "TOKEN_EXISTS",
    );
  });

  it("are not in the log, nor in the database", () => {
    for (const token of Object.values(tokens)) {
      const secret = token.split(".")[2] ?? "";
      expect(daemon.output).not.toContain(secret);
      const found = spawnSync("grep", ["-raqF", "-e", secret, join(daemon.folder, "state")]);
      expect(found.status).toBe(1);
    }
  });

  it("that are wrong again and again have to wait; right ones have not", async () => {
    const guesses = await Promise.all(
      Array.from({ length: 60 }, (_, n) =>
        ask("GET", "/v1/vms", { authorization: `Bearer guess-${n}` }),
      ),
    );
    const statuses = new Set(guesses.map(({ status }) => status));
    expect(statuses).toEqual(new Set([401, 429]));
    expect(guesses.find(({ status }) => status === 429)?.headers["retry-after"]).toBeDefined();
    expect((await ask("GET", "/v1/vms", bearer("read"))).status).toBe(200);
  });

  it("do not help pages of the web: Host and Origin must be ours", async () => {
    const host = await ask("GET", "/v1/vms", { ...bearer("read"), host: "evil.example" });
    expect(problemOf(host)).toMatchObject({ status: 403, code: "HOST_NOT_ALLOWED" });
    const origin = await ask("GET", "/v1/vms", {
      ...bearer("read"),
      origin: "http://evil.example",
    });
    expect(problemOf(origin)).toMatchObject({ status: 403, code: "HOST_NOT_ALLOWED" });
    const own = { ...bearer("read"), origin: `http://127.0.0.1:${port}` };
    const fine = await ask("GET", "/v1/vms", own);
    expect(fine.status).toBe(200);
    expect(fine.headers["access-control-allow-origin"]).toBeUndefined();
    const socket = new WebSocket(`ws://127.0.0.1:${port}/rpc`, {
      headers: { ...bearer("read"), origin: "http://evil.example" },
    });
    const status = await new Promise((resolve) => {
      socket.on("unexpected-response", (_request, { statusCode }) => resolve(statusCode));
      socket.on("open", () => resolve(101));
      socket.on("error", () => {});
    });
    expect(status).toBe(403);
  });

  it("let nobody name files where no folder is configured", async () => {
    const boot = { kind: "multiboot", kernel: daemon.guestFile("hello") };
    const body = JSON.stringify({ name: "far", boot });
    const answer = await ask("POST", "/v1/vms", bearer("admin"), body);
    expect(problemOf(answer)).toMatchObject({ status: 422, code: "PATH_OUTSIDE" });
    const patch = JSON.stringify({ serial: { com2: { backend: "file", path: "/tmp/x" } } });
    const changed = await ask("PATCH", "/v1/vms/off", bearer("admin"), patch);
    expect(problemOf(changed).errors).toEqual([
      expect.objectContaining({ pointer: "#/serial/com2/path", code: "PATH_OUTSIDE" }),
    ]);
    const labels = JSON.stringify({ labels: { a: "b" } });
    expect((await ask("PATCH", "/v1/vms/off", bearer("admin"), labels)).status).toBe(200);
  });
});

describe("paths", () => {
  let daemon: TestDaemon;
  let inside = "";

  beforeAll(async () => {
    const folder = temporaryFolder();
    inside = join(folder, "images");
    mkdirSync(inside);
    daemon = await TestDaemon.start(["--path", inside], folder);
    writeFileSync(join(inside, "kernel"), "x");
    symlinkSync("/etc/passwd", join(inside, "link"));
    symlinkSync("/etc", join(inside, "etc"));
    symlinkSync("kernel", join(inside, "near"));
    symlinkSync("loop", join(inside, "loop"));
  });
  afterAll(() => daemon.end());

  const problem = async (more: object) =>
    problemOf(
      await daemon.raw("POST", "/v1/vms?dryRun=true", {
        headers: { "content-type": "application/json" },
        body: JSON.stringify({
          name: "a",
          boot: { kind: "multiboot", kernel: join(inside, "kernel") },
          ...more,
        }),
      }),
    );
  const codes = async (path: string) =>
    (await problem({ boot: { kind: "multiboot", kernel: path } })).errors?.map(({ code }) => code);

  it.each([
    ["/etc/passwd", "PATH_OUTSIDE"],
    ["DIR/../secret", "PATH_OUTSIDE"],
    ["DIR/../images-of-others/x", "PATH_OUTSIDE"],
    ["DIR", "PATH_OUTSIDE"],
    ["DIR/link", "PATH_LEADS_OUT"],
    ["DIR/etc/passwd", "PATH_LEADS_OUT"],
    ["DIR/etc/not-there/x", "PATH_LEADS_OUT"],
    ["DIR/loop", "PATH_LEADS_OUT"],
    ["/proc/self/root/etc/passwd", "PATH_OUTSIDE"],
  ])("%s is refused: %s", async (path, code) => {
    expect(await codes(path.replace("DIR", inside))).toEqual([code]);
  });

  it("within are taken, by links that stay within too, also of files yet to be made", async () => {
    expect(await codes(join(inside, "near"))).toEqual(["MULTIBOOT_NO_HEADER"]);
    const log = join(inside, "new", "folder", "log");
    const { errors } = await problem({ serial: { com1: { backend: "console", log } } });
    expect(errors?.map(({ code }) => code)).toEqual(["MULTIBOOT_NO_HEADER"]);
  });

  it("are looked at in every field that has one", async () => {
    const out = "/etc/out";
    const { errors } = await problem({
      boot: { kind: "multiboot", kernel: out, modules: [{ file: out }] },
      serial: { com1: { backend: "file", path: out }, com2: { backend: "none", log: out } },
      devices: [
        { slot: "0:0", type: "hostbridge" },
        { slot: "31:0", type: "lpc" },
        { slot: "3:0", type: "virtio-blk", path: out, scratch: out },
        { slot: "4:0", type: "uart", serial: { backend: "socket", path: out, log: out } },
        { slot: "5:0", type: "virtio-sock", cid: 3, socket: out },
      ],
    });
    expect(errors?.map(({ pointer }) => pointer).sort()).toEqual([
      "#/boot/kernel",
      "#/boot/modules/0/file",
      "#/devices/2/path",
      "#/devices/2/scratch",
      "#/devices/3/serial/log",
      "#/devices/3/serial/path",
      "#/devices/4/socket",
      "#/serial/com1/path",
      "#/serial/com2/log",
    ]);
  });

  it("are looked at again at the start: links may have changed meanwhile", async () => {
    const kernel = join(inside, "moving");
    writeFileSync(kernel, "x");
    const boot = { kind: "multiboot", kernel };
    await daemon.client.json("POST", "/vms", { name: "moving", boot });
    unlinkSync(kernel);
    symlinkSync("/etc/passwd", kernel);
    expect((await daemon.refusal("POST", "/vms/moving/start")).code).toBe("PATH_LEADS_OUT");
  });

  /** Strings of a definition that are no paths: what they may hold is said by their pattern, or: */
  const FREE_TEXTS =
    /\/(cmdline|args|labels|export|text|host|serial|mac|bridge|interface|network|address|from|to|bind|name)$/;

  it("cannot be forgotten: every string of a definition is a path, a closed form or a known text", () => {
    const strings = (schema: TSchema, at: string): string[] => {
      if (schema.anyOf) return (schema.anyOf as TSchema[]).flatMap((one) => strings(one, at));
      if (schema.items) return strings(schema.items as TSchema, at);
      const members = Object.entries<TSchema>({ ...schema.properties });
      const records = Object.values<TSchema>(schema.patternProperties ?? {});
      const inner = [
        ...members.flatMap(([name, one]) => strings(one, `${at}/${name}`)),
        ...records.flatMap((one) => strings(one, at)),
      ];
      const open =
        schema.type === "string" && schema.enum === undefined && schema.const === undefined;
      const takesPaths =
        open && (schema.pattern === undefined || new RegExp(schema.pattern).test("/etc/x"));
      return takesPaths && schema[HOST_PATH] !== true ? [...inner, at] : inner;
    };
    expect(VmDefinition[Kind]).toBe("Object");
    expect(strings(VmDefinition, "").filter((place) => !FREE_TEXTS.test(place))).toEqual([]);
  });
});

describe("VM processes", () => {
  it.runIf(process.platform === "linux")(
    "keep what they have where --unconfined says so",
    async () => {
      const daemon = await TestDaemon.start(["--unconfined"]);
      const rightsOf = (pid: number | string): readonly string[] | null =>
        readFileSync(`/proc/${pid}/status`, "utf8").match(/^(NoNewPrivs|Seccomp):.*$/gm);
      try {
        await daemon.create("free", "hello");
        await daemon.start("free");
        const { status } = await daemon.client.call("getVm", { vm: "free" });
        expect(rightsOf(status.pid ?? 0)).toEqual(rightsOf("self"));
      } finally {
        await daemon.end();
      }
    },
  );
});

describe("the socket", () => {
  it("is for its user: another one is refused by the host", async () => {
    const daemon = await TestDaemon.start();
    try {
      if (process.getuid?.() !== 0) return; // whoever is not root cannot be another user
      const script = `require("net").connect(${JSON.stringify(daemon.socket)})
        .on("connect", () => process.exit(0)).on("error", ({ code }) => { console.log(code); process.exit(1); })`;
      const other = spawnSync(process.execPath, ["-e", script], {
        uid: 65534,
        gid: 65534,
        cwd: "/",
      });
      expect(other.stdout.toString().trim()).toBe("EACCES");
    } finally {
      await daemon.end();
    }
  });
});

describe("TLS", () => {
  const openssl = spawnSync("openssl", ["version"]).status === 0;
  it.skipIf(!openssl)("is spoken where a certificate is given, and nothing else", async () => {
    const folder = temporaryFolder();
    const [cert, key] = [join(folder, "cert.pem"), join(folder, "key.pem")];
    const subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"];
    const made = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    const files = ["-keyout", key, "-out", cert, "-days", "2"];
    execFileSync("openssl", ["req", "-x509", ...made, ...files, ...subject], { stdio: "ignore" });
    const options = ["--listen", "127.0.0.1:0", "--tls-cert", cert, "--tls-key", key];
    const daemon = await TestDaemon.start(options, folder);
    try {
      const port = await portOf(daemon);
      const { token } = await daemon.client.call("createToken", {
        body: { name: "t", scope: "read" },
      });
      const { readFileSync } = await import("node:fs");
      const status = await new Promise((resolve, reject) =>
        httpsRequest(
          {
            host: "127.0.0.1",
            port,
            path: "/v1/vms",
            ca: readFileSync(cert),
            headers: { authorization: `Bearer ${token}` },
          },
          (answer) => resolve(answer.statusCode),
        )
          .on("error", reject)
          .end(),
      );
      expect(status).toBe(200);
      const plain = await rawRequest({ host: "127.0.0.1", port }, "GET", "/v1/vms").catch(
        () => "none",
      );
      expect(plain === "none" || (plain as RawAnswer).status === 400).toBe(true);
    } finally {
      await daemon.end();
      rmSync(folder, { recursive: true, force: true });
    }
  });
});

describe("clients that ask for too much", () => {
  let daemon: TestDaemon;
  beforeAll(async () => {
    daemon = await TestDaemon.start();
  });
  afterAll(() => daemon.end());

  /** A host whose queue of unaccepted connections is full says so (EAGAIN): then once more. */
  const serves = (): Promise<boolean> =>
    eventually(async () => {
      const answer = await daemon.raw("GET", "/v1/vms").catch(() => undefined);
      return answer?.status === 200;
    });
  const closed = (socket: Socket): Promise<string> =>
    new Promise((resolve) => {
      let text = "";
      socket.on("data", (data) => {
        text += data.toString();
      });
      socket.on("error", () => {});
      socket.on("close", () => resolve(text));
    });

  it("10,000 idle connections: the oldest give way, others are served", async () => {
    const sockets = new Set<Socket>();
    for (let made = 0; made < 10_000; made += 100) {
      const batch = Array.from(
        { length: 100 },
        () =>
          new Promise<void>((resolve) => {
            const socket = connect(daemon.socket, () => resolve());
            sockets.add(socket);
            socket.on("error", () => resolve());
            socket.on("close", () => sockets.delete(socket));
          }),
      );
      await Promise.all(batch);
      if (made % 2_000 === 0) await serves();
    }
    await serves();
    await eventually(() => sockets.size <= 512);
    for (const socket of sockets) socket.destroy();
  }, 120_000);

  it("a body without end is not read to its end", async () => {
    const socket = connect(daemon.socket);
    const text = closed(socket);
    socket.write(
      "POST /v1/vms HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n",
    );
    const chunk = `10000\r\n${" ".repeat(0x10000)}\r\n`;
    const pour = setInterval(() => socket.writable && socket.write(chunk), 1);
    expect(await text).toContain("413");
    clearInterval(pour);
    await serves();
  });

  it("slow ones are cut off: headers that never end, a body that never comes", async () => {
    const slow = connect(daemon.socket);
    const began = Date.now();
    const text = closed(slow);
    slow.write("GET /v1/vms HTTP/1.1\r\n");
    const drip = setInterval(() => slow.writable && slow.write("x: y\r\n"), 500);
    await serves();
    expect(await text).toMatch(/^HTTP\/1\.1 408 |^$/);
    clearInterval(drip);
    expect(Date.now() - began).toBeLessThan(30_000);
    await serves();
  });

  it("headers that are too large are refused", async () => {
    const headers = { "x-long": "a".repeat(20_000) };
    const answer = await daemon.raw("GET", "/v1/vms", { headers });
    expect(problemOf(answer)).toMatchObject({ status: 431, code: "HEADERS_TOO_LARGE" });
  });
});
