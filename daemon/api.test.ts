// What the API promises beyond each operation: all errors at once, conditional and repeated requests,
// pages, waiting for a change, dry runs.
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Problem, VmView } from "../api-schema/index.js";
import { eventually, problemOf, TestDaemon } from "../test/daemon/daemon.js";
import { matches } from "./http/page.js";
import { mergePatch } from "./merge-patch.js";

let daemon: TestDaemon;

beforeAll(async () => {
  daemon = await TestDaemon.start();
  for (const name of ["web-1", "web-2", "db-1"])
    await daemon.create(name, "hello", { labels: { tier: name.split("-")[0], n: name.slice(-1) } });
  await daemon.run("runs", "hello");
});
afterAll(() => daemon.end());

const send = (method: string, path: string, body?: unknown, headers: Record<string, string> = {}) =>
  daemon.raw(method, `/v1${path}`, {
    headers: { ...headers, ...(body === undefined ? {} : { "content-type": "application/json" }) },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
const boot = () => ({ kind: "multiboot", kernel: daemon.guestFile("hello") });
const names = async (query: string): Promise<string[]> =>
  (await daemon.client.json<{ vms: VmView[] }>("GET", `/vms${query}`)).vms.map(({ name }) => name);

describe("a refusal", () => {
  it("names every place that is wrong, and what would be right", async () => {
    const body = {
      name: "a/b",
      memory: 1,
      cpus: "two",
      boot: { kind: "linux", kernel: "/k", intrd: "/i" },
      devices: [{ slot: "3", type: "virtio-blk" }],
    };
    const problem = await daemon.refusal("POST", "/vms?dryRun=perhaps", body);
    expect(problem).toMatchObject({ status: 400, code: "REQUEST_INVALID" });
    const places = problem.errors?.map((one) => `${one.in}${one.pointer}`).sort();
    expect(places).toEqual([
      "body#/boot/intrd",
      "body#/cpus",
      "body#/devices/0/path",
      "body#/memory",
      "body#/name",
      "query#/dryRun",
    ]);
    expect(problem.errors?.find(({ pointer }) => pointer === "#/cpus")?.detail).toBe(
      "must be an integer from 1 to 64",
    );
  });

  it("tells the state of the VM and what it can be asked now", async () => {
    const problem = await daemon.refusal("POST", "/vms/runs/start");
    expect(problem).toMatchObject({ status: 409, code: "VM_STATE_FORBIDS", state: "running" });
    expect(problem.actions).toEqual(expect.arrayContaining(["stop", "pause", "shutdown"]));
    expect(problem.actions).not.toContain("start");
    expect(problem.requestId).not.toBe("");
  });

  it("of a method tells which the path takes", async () => {
    const answer = await send("DELETE", "/vms");
    expect(problemOf(answer)).toMatchObject({ status: 405, code: "METHOD_NOT_ALLOWED" });
    expect(answer.headers.allow).toBe("GET, POST");
  });
});

describe("PUT", () => {
  it("makes a VM, and then makes it so; the same again changes nothing", async () => {
    const body = { name: "put", boot: boot(), memory: 16 * 2 ** 20 };
    const made = await send("PUT", "/vms/put", body);
    expect(made.status).toBe(201);
    expect(made.headers.etag).toBe('"1"');
    const uuid = (JSON.parse(made.text) as VmView).uuid;
    expect(made.headers.location).toBe(`/v1/vms/${uuid}`);
    const again = await send("PUT", "/vms/put", body);
    expect(again.status).toBe(200);
    expect(JSON.parse(again.text)).toEqual(JSON.parse(made.text));
    const changed = await send("PUT", "/vms/put", { ...body, cpus: 2 });
    expect(JSON.parse(changed.text)).toMatchObject({ uuid, generation: 2 });
    expect(problemOf(await send("PUT", "/vms/other", body)).errors?.[0]?.pointer).toBe("#/name");
    await send("DELETE", "/vms/put");
  });

  it("with power sees to it", async () => {
    const body = { name: "power", boot: boot(), memory: 16 * 2 ** 20, power: "running" };
    await send("PUT", "/vms/power", body);
    await send("GET", "/vms/power?statusGeneration=0");
    await eventually(async () => (await daemon.vm("power")).status.state === "running", 30);
    await send("PUT", "/vms/power", { ...body, power: "stopped" });
    await daemon.client.json("POST", "/vms/power/stop?wait=stopped");
    await send("DELETE", "/vms/power");
  });

  it.each(["PUT", "PATCH", "DELETE"])(
    "or its like with If-Match is for that generation: %s",
    async (method) => {
      const vm = await daemon.vm("web-1");
      const body =
        method === "PUT" ? { ...vm.definition } : method === "PATCH" ? { cpus: 3 } : undefined;
      const stale = await send(method, "/vms/web-1", body, { "if-match": '"99"' });
      expect(problemOf(stale)).toMatchObject({ status: 412, code: "VM_CHANGED" });
      const wrong = await send(method, "/vms/web-1", body, { "if-match": "3" });
      expect(problemOf(wrong).errors?.[0]).toMatchObject({ in: "headers", pointer: "#/if-match" });
      expect(await daemon.vm("web-1")).toEqual(vm);
    },
  );
});

describe("PATCH", () => {
  it("merges (RFC 7396): what is not named stays, null restores the default", async () => {
    await send("PATCH", "/vms/web-2", { firmware: { x2apic: true }, labels: { more: "x" } });
    const changed = await daemon.vm("web-2");
    expect(changed.definition.firmware).toMatchObject({ x2apic: true, acpi: true });
    expect(changed.definition.labels).toEqual({ tier: "web", n: "2", more: "x" });
    await send("PATCH", "/vms/web-2", { firmware: null, labels: { more: null } });
    const back = await daemon.vm("web-2");
    expect(back.definition.firmware.x2apic).toBe(false);
    expect(back.definition.labels).toEqual({ tier: "web", n: "2" });
  });

  it.each([
    [{ a: "b" }, { a: "c" }, { a: "c" }],
    [{ a: "b", b: "c" }, { a: null }, { b: "c" }],
    [{ a: ["b"] }, { a: "c" }, { a: "c" }],
    [{ a: { b: "c" } }, { a: { b: "d", c: null } }, { a: { b: "d" } }],
    [{ a: [{ b: "c" }] }, { a: [1] }, { a: [1] }],
    [
      ["a", "b"],
      ["c", "d"],
      ["c", "d"],
    ],
    [{ e: null }, { a: 1 }, { e: null, a: 1 }],
    [[1, 2], { a: "b", c: null }, { a: "b" }],
    [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }],
  ])("as the RFC's examples: %j with %j is %j", (target, patch, result) => {
    expect(mergePatch(target, patch)).toEqual(result);
  });
});

describe("the list", () => {
  it.each([
    ["", ["db-1", "runs", "web-1", "web-2"]],
    ["?name=web-*", ["web-1", "web-2"]],
    ["?name=*-1", ["db-1", "web-1"]],
    ["?name=runs", ["runs"]],
    ["?state=running", ["runs"]],
    ["?state=running,defined&name=*1", ["db-1", "web-1"]],
    ["?labels=tier%3Dweb", ["web-1", "web-2"]],
    ["?labels=tier%3Dweb,n%3D1", ["web-1"]],
    ["?labels=tier", ["db-1", "web-1", "web-2"]],
    ["?labels=tier%3D", []],
  ])("is of those asked for: %s", async (query, expected) => {
    expect(await names(query)).toEqual(expected);
  });

  it("comes in pages, whatever is deleted meanwhile", async () => {
    const first = await daemon.client.call("listVms", { limit: 2 });
    expect(first.vms.map(({ name }) => name)).toEqual(["db-1", "runs"]);
    await daemon.create("gone", "hello");
    await send("DELETE", "/vms/gone");
    const rest = await daemon.client.call("listVms", { limit: 2, cursor: first.next ?? "" });
    expect(rest.vms.map(({ name }) => name)).toEqual(["web-1", "web-2"]);
    expect(rest.next).toBeUndefined();
  });

  it.each([
    ["a*c", "abc", true],
    ["*", "x", true],
    ["a*a", "a", false],
    ["*a*b*", "xxaxxbxx", true],
    ["*a*b*", "xxbxxaxx", false],
    ["ab", "abc", false],
    ["*bc", "abcbc", true],
  ])("takes a pattern: %s and %s: %s", (pattern, name, result) => {
    expect(matches(pattern, name)).toBe(result);
    const began = Date.now();
    matches(`${"a*".repeat(31)}b`, "a".repeat(63)); // no backtracking
    expect(Date.now() - began).toBeLessThan(10_000); // where it would take for ever
  });
});

describe("a look that waits", () => {
  it("ends when the VM changes, or with the time", async () => {
    const { status, generation } = await daemon.vm("runs");
    const seen = `generation=${generation}&statusGeneration=${status.generation}`;
    const began = Date.now();
    const same = await daemon.client.json<VmView>("GET", `/vms/runs?${seen}&timeout=1`);
    expect(same.status.generation).toBe(status.generation);
    expect(Date.now() - began).toBeGreaterThan(900);
    const waiting = daemon.client.json<VmView>("GET", `/vms/runs?${seen}&timeout=60`);
    await sleep(50);
    await daemon.client.json("POST", "/vms/runs/pause");
    expect((await waiting).status.generation).toBeGreaterThan(status.generation);
    await daemon.client.json("POST", "/vms/runs/resume");
  });
});

describe("an Idempotency-Key", () => {
  const create = (key: string, body: object) =>
    send("POST", "/vms", body, { "idempotency-key": key });

  it("gets the same answer again, also from the next daemon", async () => {
    const body = { name: "once", boot: boot() };
    const first = await create("k1", body);
    expect(first.status).toBe(201);
    const second = await create("k1", body);
    expect(second.status).toBe(201);
    expect(second.text).toBe(first.text);
    expect(second.headers.location).toBe(first.headers.location);
    await daemon.kill("SIGKILL");
    await daemon.launch();
    expect((await create("k1", body)).text).toBe(first.text);
    expect(await names("?name=once")).toEqual(["once"]);
  });

  it("is for one request", async () => {
    const other = await create("k1", { name: "twice", boot: boot() });
    expect(problemOf(other)).toMatchObject({ status: 422, code: "IDEMPOTENCY_KEY_REUSED" });
    const verb = await send("POST", "/vms/once/start", {}, { "idempotency-key": "k1" });
    expect(problemOf(verb).code).toBe("IDEMPOTENCY_KEY_REUSED");
    const spaced = problemOf(await create("a b", { name: "x", boot: boot() }));
    expect(spaced.errors?.[0]).toMatchObject({ in: "headers", pointer: "#/idempotency-key" });
  });

  it("of a refusal is free again", async () => {
    expect(problemOf(await create("k2", { name: "once", boot: boot() })).status).toBe(409);
    expect((await create("k2", { name: "later", boot: boot() })).status).toBe(201);
  });

  it("of two at once carries out one", async () => {
    const path = "/vms/once/start?wait=running";
    const both = await Promise.all(
      [1, 2].map(() => send("POST", path, {}, { "idempotency-key": "k3" })),
    );
    const codes = both.map(({ status, text }) =>
      status === 200 ? "" : (JSON.parse(text) as Problem).code,
    );
    expect([
      ["", ""],
      ["", "IDEMPOTENCY_KEY_BUSY"],
    ]).toContainEqual(codes.sort());
    await daemon.client.json("POST", "/vms/once/stop");
  });
});

describe("a dry run", () => {
  const dry = (body: object, path = "/vms", method = "POST") =>
    send(method, `${path}?dryRun=true`, body);

  it("says what would be, and changes nothing", async () => {
    const before = await daemon.client.json("GET", "/vms");
    const made = await dry({ name: "dry", boot: boot() });
    expect(made.status).toBe(200);
    expect(JSON.parse(made.text)).toMatchObject({ name: "dry", definition: { cpus: 1 } });
    expect((await dry({ cpus: 4 }, "/vms/web-1", "PATCH")).status).toBe(200);
    expect((await dry({ name: "web-1", boot: boot() }, "/vms/web-1", "PUT")).status).toBe(200);
    expect(await daemon.client.json("GET", "/vms")).toEqual(before);
  });

  it("tells every problem, those of the host's files too", async () => {
    const bridge = "no-such-bridge";
    const network = { name: "nowhere", backend: { kind: "bridge", bridge } };
    await daemon.client.json("POST", "/networks", network);
    const problem = problemOf(
      await dry({
        name: "web-1",
        boot: { kind: "linux", kernel: "/nowhere/vmlinuz", initrd: "/nowhere/initrd" },
        devices: [
          { slot: "0:0", type: "hostbridge" },
          { slot: "3:0", type: "virtio-blk", path: "/nowhere/disk" },
          { slot: "4:0", type: "virtio-net", backend: { kind: "stream", socket: "/nowhere/net" } },
          { slot: "5:0", type: "virtio-net", backend: { kind: "tap", bridge } },
          { slot: "6:0", type: "virtio-net", network: "nowhere" },
        ],
      }),
    );
    expect(problem).toMatchObject({ status: 422, code: "DRY_RUN_FAILED" });
    const found = problem.errors?.map(({ code, pointer }) => `${code} ${pointer}`).sort();
    expect(found).toEqual([
      "FILE_UNREADABLE #/boot/kernel",
      "IMAGE_UNUSABLE #/devices/1/path",
      "NETWORK_UNUSABLE #/devices/2/backend",
      "NETWORK_UNUSABLE #/devices/3/backend",
      "NETWORK_UNUSABLE #/devices/4/network",
      "SERIAL_NEEDS_LPC #",
      "VM_EXISTS #/name",
    ]);
  });
});
