// Watching: events and their replay, long work as objects, metrics, health.
import { randomBytes } from "node:crypto";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import Database from "better-sqlite3";

import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { WebSocket } from "ws";
import { Event, type LongOperation, parse, type VmView } from "../api-schema/index.js";
import { eventually, killed, TestDaemon } from "../test/daemon/daemon.js";
import { watchEvents } from "../test/daemon/events.js";
import { readMetrics } from "../test/daemon/prometheus.js";

let daemon: TestDaemon;
beforeEach(async () => {
  daemon = await TestDaemon.start();
});
afterEach(() => daemon.end());

const post = <T = VmView>(path: string, body?: unknown): Promise<T> =>
  daemon.client.json("POST", path, body);

describe("events", () => {
  it("tell of every change, in order and with whole data", async () => {
    const watcher = watchEvents(daemon, "?kinds=vm");
    await eventually(async () => {
      await daemon.create(`probe-${randomBytes(4).toString("hex")}`, "hello");
      return watcher.seen.length > 0; // it listens
    });
    const { uuid } = await daemon.create("seen", "powerOff");
    await daemon.start("seen", "stopped");
    await daemon.client.json("PATCH", "/vms/seen", { cpus: 2 });
    await daemon.client.json("DELETE", "/vms/seen");
    await eventually(() => watcher.seen.at(-1)?.kind === "vm.deleted");
    const about = watcher.seen.filter(({ vm }) => vm?.uuid === uuid);
    for (const event of about) expect(parse(Event, event).vm?.name).toBe("seen");
    const told = about.map(({ kind, data }) => (kind === "vm.status" ? data.state : kind));
    const once = told.filter((what, index) => what !== told[index - 1]);
    expect(once.join(" ")).toMatch(
      /^vm\.created vm\.power starting running (stopping )?stopped vm\.changed stopped vm\.deleted$/,
    );
    const last = about.findLast(({ kind, data }) => kind === "vm.status" && data.reason);
    expect(last?.data).toMatchObject({ reason: "guest power-off", exitStatus: 1 });
    expect([...watcher.ids].sort((a, b) => a - b)).toEqual(watcher.ids);
    expect(new Set(watcher.ids).size).toBe(watcher.ids.length);
    watcher.end();
  });

  it("are replayed after a kill of the daemon: none is missing, none comes twice", async () => {
    const whole = watchEvents(daemon, "?after=0");
    await daemon.run("worker", "hello");
    await eventually(() => whole.seen.some(({ data }) => data.state === "running"));
    await daemon.kill("SIGKILL");
    await whole.ended;
    const seen = [...whole.ids];
    const last = seen.at(-1) ?? 0;
    await killed(daemon.vmPids()[0]);
    await daemon.launch();
    await post("/vms/worker/start");

    const rest = watchEvents(daemon, "", last);
    await eventually(() => rest.seen.some(({ data }) => data.state === "running"));
    const kinds = rest.seen.map(({ kind }) => kind);
    expect(kinds).toContain("daemon.started");
    expect(rest.seen.find(({ data }) => data.state === "failed")).toBeDefined();
    rest.end();

    const all = watchEvents(daemon, "?after=0");
    const told = [...seen, ...rest.ids];
    await eventually(() => all.ids.length >= told.length);
    expect(all.ids.slice(0, told.length)).toEqual(told);
    expect(all.ids).toEqual(all.ids.map((_, index) => index + 1));
    all.end();
  });

  it("can be those of one VM or some kinds, and a kind that there is not is refused", async () => {
    const { uuid } = await daemon.create("one", "hello");
    await daemon.create("two", "hello");
    const watcher = watchEvents(daemon, `?after=0&vm=one&kinds=vm.created,vm.power`);
    const byUuid = watchEvents(daemon, `?after=0&vm=${uuid}`);
    await post("/vms/two/start");
    await post("/vms/one/start");
    await eventually(() => watcher.seen.length >= 2 && byUuid.seen.length >= 4);
    expect(watcher.seen.map(({ kind }) => kind)).toEqual(["vm.created", "vm.power"]);
    for (const { vm } of [...watcher.seen, ...byUuid.seen]) expect(vm?.name).toBe("one");
    watcher.end();
    byUuid.end();
    const wrong = await daemon.refusal("GET", "/events?kinds=vm.exploded");
    expect(wrong).toMatchObject({ status: 400, code: "REQUEST_INVALID" });
    expect(wrong.detail).toContain("vm.created");
    expect((await daemon.refusal("GET", "/events?vm=nobody")).code).toBe("VM_NOT_FOUND");
  });

  it("that are no longer kept are told of as lost", async () => {
    await daemon.create("old", "hello");
    const db = new Database(join(daemon.folder, "state", "registry.db"));
    await daemon.kill("SIGKILL");
    db.prepare("DELETE FROM events WHERE sequence <= 2").run();
    db.close();
    await daemon.launch();
    const watcher = watchEvents(daemon, "", 0);
    await eventually(() => watcher.seen.length >= 2);
    expect(watcher.seen[0]).toMatchObject({
      kind: "events.lost",
      sequence: 2,
      data: { from: 1, to: 2 },
    });
    expect(watcher.ids[1]).toBe(3);
    watcher.end();
  });

  it("come as JSON-RPC notifications too", async () => {
    const socket = new WebSocket(`ws+unix:${daemon.socket}:/rpc`);
    const messages: { method?: string; params?: { sequence: number; data: Event } }[] = [];
    socket.on("message", (data: Buffer) => messages.push(JSON.parse(data.toString())));
    await new Promise((resolve) => socket.once("open", resolve));
    const params = { kinds: "vm.created" };
    socket.send(JSON.stringify({ jsonrpc: "2.0", id: 1, method: "watchEvents", params }));
    await eventually(() => messages.length > 0);
    await daemon.create("heard", "hello");
    await eventually(() => messages.length > 1);
    expect(messages[1]).toMatchObject({
      method: "event",
      params: { data: { kind: "vm.created", vm: { name: "heard" } } },
    });
    socket.close();
  });
});

describe("a clone", () => {
  const disk = (path: string) => ({ slot: "3:0", type: "virtio-blk", path });
  const bridges = [
    { slot: "0:0", type: "hostbridge" },
    { slot: "31:0", type: "lpc" },
  ];
  const filesOf = (): string[] => readdirSync(daemon.folder).filter((name) => /^disk/.test(name));

  async function original(): Promise<Buffer> {
    const content = Buffer.concat([
      randomBytes(5 * 2 ** 20),
      Buffer.alloc(7 * 2 ** 20),
      randomBytes(512),
    ]);
    const path = daemon.file("disk.img", content);
    await daemon.create("golden", "hello", {
      devices: [...bridges, disk(path)],
      template: true,
      protected: true,
      labels: { from: "golden" },
    });
    return content;
  }

  it("has a name, UUID and disks of its own, and runs", async () => {
    const content = await original();
    const copy = join(daemon.folder, "disk-2.img");
    const done = await post<LongOperation>("/vms/golden/clone?timeout=60", {
      name: "copy",
      disks: { "3:0": copy },
      changes: { labels: { tier: "b" } },
    });
    expect(done).toMatchObject({
      state: "succeeded",
      kind: "vm.clone",
      progress: { unit: "bytes" },
    });
    expect(done.progress.done).toBe(content.length);
    expect(readFileSync(copy).equals(content)).toBe(true);
    const vm = await daemon.vm("copy");
    expect(vm.definition).toMatchObject({
      template: false,
      protected: false,
      labels: { tier: "b" },
    });
    expect(vm.definition.devices).toContainEqual(expect.objectContaining({ path: copy }));
    expect(done.result).toEqual({ vm: vm.uuid, name: "copy" });
    expect((await daemon.start("copy")).status.state).toBe("running");
    expect(filesOf().sort()).toEqual(["disk-2.img", "disk.img"]);
    const { operations } = await daemon.client.json<{ operations: LongOperation[] }>(
      "GET",
      "/operations",
    );
    expect(operations[0]).toEqual(await daemon.client.json("GET", `/operations/${done.id}`));
  });

  it("says at once what is wrong", async () => {
    await original();
    const clone = (body: object) => daemon.refusal("POST", "/vms/golden/clone", body);
    expect((await clone({ name: "x" })).code).toBe("CLONE_DISK_MISSING");
    expect((await clone({ name: "x", disks: { "9:0": "/tmp/x" } })).code).toBe(
      "CLONE_DISK_UNKNOWN",
    );
    expect((await clone({ name: "golden", disks: { "3:0": "/tmp/x" } })).code).toBe("VM_EXISTS");
    await daemon.run("on", "hello");
    expect((await daemon.refusal("POST", "/vms/on/clone", { name: "x" })).code).toBe(
      "VM_STATE_FORBIDS",
    );
    const taken = daemon.file("disk-taken.img", "precious");
    const failed = await post<LongOperation>("/vms/golden/clone?timeout=60", {
      name: "late",
      disks: { "3:0": taken },
    });
    expect(failed).toMatchObject({ state: "failed", error: { code: "FILE_EXISTS" } });
    expect(readFileSync(taken, "utf8")).toBe("precious");
    expect((await daemon.refusal("GET", "/vms/late")).code).toBe("VM_NOT_FOUND");
    expect(filesOf().sort()).toEqual(["disk-taken.img", "disk.img"]);
  });

  it("is begun again after a kill of the daemon, at any moment, and made once", async () => {
    const content = await original();
    for (const [index, delay] of [0, 5, 20, 60].entries()) {
      const name = `copy${index}`;
      const copy = join(daemon.folder, `disk-${name}.img`);
      const { id } = await post<LongOperation>("/vms/golden/clone", {
        name,
        disks: { "3:0": copy },
      });
      await new Promise((resolve) => setTimeout(resolve, delay));
      await daemon.kill("SIGKILL");
      await daemon.launch();
      const done = await daemon.client.json<LongOperation>("GET", `/operations/${id}?timeout=60`);
      expect(done).toMatchObject({ state: "succeeded", result: { name } });
      expect(readFileSync(copy).equals(content)).toBe(true);
      expect((await daemon.vm(name)).uuid).toBe(done.result?.vm);
    }
    expect(filesOf()).toHaveLength(5);
  });

  it("that is cancelled leaves nothing, and cannot be cancelled twice", async () => {
    await original();
    const big = join(daemon.folder, "disk-big.img");
    writeFileSync(big, randomBytes(64 * 2 ** 20));
    await daemon.client.json("PATCH", "/vms/golden", { devices: [...bridges, disk(big)] });
    const copy = join(daemon.folder, "disk-none.img");
    const body = { name: "none", disks: { "3:0": copy } };
    const { id } = await post<LongOperation>("/vms/golden/clone", body);
    const answer = await daemon.raw("POST", `/v1/operations/${id}/cancel`);
    const ended = await daemon.client.json<LongOperation>("GET", `/operations/${id}`);
    if (answer.status === 200 && ended.state === "cancelled") {
      expect(existsSync(copy)).toBe(false);
      expect((await daemon.refusal("GET", "/vms/none")).code).toBe("VM_NOT_FOUND");
      expect(filesOf().filter((name) => name.includes("none"))).toEqual([]);
    } else expect(ended.state).toBe("succeeded"); // it was faster
    const again = await daemon.refusal("POST", `/operations/${id}/cancel`);
    expect(again).toMatchObject({ status: 409, code: "OPERATION_ENDED" });
    const nowhere = await daemon.refusal("GET", "/operations/0123");
    expect(nowhere.code).toBe("OPERATION_NOT_FOUND");
  });
});

describe("metrics and health", () => {
  const scrape = async () => {
    const { text, headers, status } = await daemon.raw("GET", "/metrics");
    expect(status).toBe(200);
    expect(headers["content-type"]).toBe("text/plain; version=0.0.4; charset=utf-8");
    expect(text.endsWith("\n")).toBe(true);
    const families = readMetrics(text);
    return (name: string) => families.find((family) => family.name === name);
  };

  it("are what an independent parser reads", async () => {
    const path = daemon.file("disk.img", Buffer.alloc(2 ** 20));
    const { uuid } = await daemon.run("met", "count", {
      cpus: 2,
      devices: [
        { slot: "0:0", type: "hostbridge" },
        { slot: "3:0", type: "virtio-blk", path },
        { slot: "31:0", type: "lpc" },
      ],
    });
    await daemon.create("off", "hello");
    await eventually(async () => (await daemon.history("met")).length > 100);
    const family = await scrape();
    const of = (name: string, labels: object = {}) =>
      family(name)?.metrics.filter((sample) =>
        Object.entries(labels).every(([label, value]) => sample.labels?.[label] === value),
      );
    const value = (name: string, labels: object = {}): number =>
      Number(of(name, { vm: "met", ...labels })?.[0]?.value);
    expect(value("xhyved_vm_up")).toBe(1);
    expect(value("xhyved_vm_memory_bytes")).toBe(16 * 2 ** 20);
    expect(value("xhyved_vm_vcpus")).toBe(2);
    expect(value("xhyved_vm_resident_memory_bytes")).toBeGreaterThan(2 ** 20);
    expect(family("xhyved_vm_cpu_seconds_total")?.type).toBe("COUNTER");
    expect(value("xhyved_vm_cpu_seconds_total", { mode: "user" })).toBeGreaterThan(0);
    expect(value("xhyved_vm_exits_total", { vcpu: "0", kind: "port", uuid })).toBeGreaterThan(100);
    expect(value("xhyved_vm_disk_read_bytes_total", { device: "disk-3:0" })).toBe(0);
    expect(of("xhyved_vm_up", { vm: "off" })?.[0]?.value).toBe("0");
    expect(of("xhyved_vms", { state: "running" })?.[0]?.value).toBe("1");
    expect(of("xhyved_vms", { state: "defined" })?.[0]?.value).toBe("1");
    expect(Number(of("process_resident_memory_bytes")?.[0]?.value)).toBeGreaterThan(2 ** 20);
    // Counters only grow.
    const before = value("xhyved_vm_exits_total", { vcpu: "0", kind: "port" });
    await eventually(async () => {
      const now = (await scrape())("xhyved_vm_exits_total")?.metrics.find(
        ({ labels }) => labels?.kind === "port" && labels.vcpu === "0",
      );
      return Number(now?.value) > before;
    });
  });

  it("of a VM that hangs hold nobody up", async () => {
    const { status } = await daemon.run("hung", "hello");
    process.kill(status.pid ?? 0, "SIGSTOP");
    const began = Date.now();
    const family = await scrape();
    expect(Date.now() - began).toBeLessThan(25_000);
    expect(family("xhyved_vm_up")?.metrics[0]?.value).toBe("0");
    process.kill(status.pid ?? 0, "SIGKILL");
  });

  it("health and readiness are told without a token", async () => {
    expect((await daemon.raw("GET", "/healthz")).text).toBe("ok\n");
    expect((await daemon.raw("GET", "/readyz")).text).toBe("ready\n");
  });
});
