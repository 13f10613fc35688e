// What the daemon does by itself: drives VMs to what they should be, restarts them, starts them
// with the host and shuts them down with it; and what it tells those who watch.

import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import Database from "better-sqlite3";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { LongOperation, VmView } from "../api-schema/index.js";
import { eventually, killed, TestDaemon } from "../test/daemon/daemon.js";
import { watchEvents } from "../test/daemon/events.js";

let daemon: TestDaemon;
beforeEach(async () => {
  daemon = await TestDaemon.start();
});
afterEach(() => daemon.end());

const post = (path: string, body?: unknown): Promise<VmView> =>
  daemon.client.json("POST", path, body);
const patch = (name: string, body: unknown): Promise<VmView> =>
  daemon.client.json("PATCH", `/vms/${name}`, body);
const status = async (name: string): Promise<VmView["status"]> => (await daemon.vm(name)).status;
const inState = (name: string, state: string): Promise<VmView> =>
  eventually(async () => {
    const vm = await daemon.vm(name);
    return vm.status.state === state && vm;
  });

/** As if the host had been switched off and on. */
async function reboot(): Promise<void> {
  await daemon.killAll();
  const db = new Database(join(daemon.folder, "state", "registry.db"));
  db.prepare("UPDATE facts SET value = 'another boot' WHERE name = 'boot'").run();
  db.close();
  await daemon.launch();
}

describe("what a VM should be", () => {
  it("is reached by itself after it was created so, and after every change of it", async () => {
    const made = await daemon.create("wish", "hello", { power: "running" });
    expect(made).toMatchObject({ power: "running", generation: 1 });
    const running = await inState("wish", "running");
    await eventually(async () => (await status("wish")).observedGeneration === 1);

    expect(await patch("wish", { power: "paused" })).toMatchObject({ generation: 2 });
    expect((await inState("wish", "paused")).status.pid).toBe(running.status.pid);
    await patch("wish", { power: "stopped" });
    const off = await inState("wish", "stopped");
    expect(off.status).toMatchObject({ reason: "stop requested" });
    await eventually(async () => (await status("wish")).observedGeneration === 3);
    // From off to paused leads over a start.
    await patch("wish", { power: "paused" });
    await inState("wish", "paused");
  });

  it("said again changes nothing", async () => {
    await daemon.create("same", "hello", { power: "running" });
    const before = await inState("same", "running");
    const again = await patch("same", { power: "running" });
    expect(again.generation).toBe(before.generation);
    await sleep(300);
    expect((await daemon.vm("same")).status).toMatchObject({
      state: "running",
      pid: before.status.pid,
    });
  });

  it("is gone on with by the next daemon", async () => {
    await daemon.create("later", "hello");
    await patch("later", { power: "running" });
    await daemon.kill("SIGKILL");
    await daemon.launch();
    await inState("later", "running");
    await eventually(async () => (await status("later")).observedGeneration === 2);
  });

  it("follows what clients tell it to do", async () => {
    await daemon.run("told", "hello");
    expect((await daemon.vm("told")).power).toBe("running");
    expect((await post("/vms/told/pause")).power).toBe("paused");
    expect((await post("/vms/told/kill")).power).toBe("stopped");
    expect(await status("told")).toMatchObject({ state: "stopped", reason: "stop requested" });
  });

  it("that cannot be started has failed, and says why", async () => {
    const boot = { kind: "multiboot", kernel: "/nowhere/kernel" };
    await daemon.client.json("POST", "/vms", { name: "lame", boot, power: "running" });
    const vm = await inState("lame", "failed");
    expect(vm.status).toMatchObject({ reason: "start failed", observedGeneration: 1 });
    expect(vm.status.detail).toContain("/nowhere/kernel");
  });
});

describe("while it runs", () => {
  it("what no VM process looks at can be changed, and the rest is refused by name", async () => {
    await daemon.run("live", "hello");
    const changed = await patch("live", { labels: { tier: "a" }, restart: { policy: "always" } });
    expect(changed.definition).toMatchObject({ labels: { tier: "a" }, restart: { limit: 5 } });
    const problem = await daemon.refusal("PATCH", "/vms/live", { cpus: 2, memory: 2 ** 25 });
    expect(problem).toMatchObject({ status: 409, code: "VM_STATE_FORBIDS" });
    expect(problem.detail).toContain("cpus, memory");
  });

  it("protected, it cannot be deleted; a template cannot be started", async () => {
    await daemon.create("kept", "hello", { protected: true });
    expect((await daemon.refusal("DELETE", "/vms/kept")).code).toBe("VM_PROTECTED");
    await patch("kept", { protected: false, template: true });
    expect((await daemon.refusal("POST", "/vms/kept/start")).code).toBe("VM_TEMPLATE");
    await daemon.client.json("DELETE", "/vms/kept");
  });
});

describe("a guest that fails", () => {
  const restart = { policy: "on-failure", delay: 0.1, maxDelay: 0.4, limit: 3, window: 60 };

  it("again and again is started again, later each time, and then no more", async () => {
    const events = watchEvents(daemon, "?kinds=vm.status");
    const doubled = { ...restart, delay: 0.4, maxDelay: 1.6 };
    await daemon.create("loop", "tripleFault", { restart: doubled });
    await daemon.start("loop");
    const vm = await eventually(async () => {
      const one = await daemon.vm("loop");
      return one.status.crashLoop === true && one;
    });
    expect(vm.status).toMatchObject({ state: "failed", reason: "guest triple fault", restarts: 3 });
    expect(vm.status.nextStart).toBeUndefined();
    expect((await daemon.history("loop")).toString()).toBe("oops\r\n".repeat(4));

    const delays = events.seen
      .map(({ time, data }) => Date.parse(String(data.nextStart)) - Date.parse(time))
      .filter((delay) => !Number.isNaN(delay));
    expect(delays).toHaveLength(3);
    // The event's time is some moments after the end that the delay counts from.
    for (const [index, ms] of [400, 800, 1600].entries()) {
      expect(delays[index]).toBeLessThanOrEqual(ms);
      expect(delays[index]).toBeGreaterThan(ms / 2);
    }
    events.end();
    // A client's start begins the count anew.
    await daemon.start("loop");
    await eventually(async () => (await status("loop")).restarts === 1);
    await post("/vms/loop/stop");
    const left = await status("loop");
    await sleep(1000);
    expect((await status("loop")).generation).toBe(left.generation);
  });

  it("waits over a restart of the daemon for its turn", async () => {
    const slow = { ...restart, delay: 2, maxDelay: 2 };
    await daemon.create("waits", "tripleFault", { restart: slow });
    await daemon.start("waits");
    const before = await inState("waits", "failed");
    await daemon.kill("SIGKILL");
    await daemon.launch();
    const events = watchEvents(daemon, "?after=0&kinds=vm.status");
    const again = await eventually(
      () => events.seen.filter(({ data }) => data.state === "starting" && data.restarts === 1)[0],
    );
    events.end();
    expect(Date.parse(again.time)).toBeGreaterThanOrEqual(
      Date.parse(before.status.nextStart ?? ""),
    );
  });

  it("while no daemon runs is started again by the next one", async () => {
    await daemon.run("alone", "hello", { restart });
    const { pid } = await status("alone");
    await daemon.kill("SIGKILL");
    await killed(pid);
    await daemon.launch();
    const vm = await inState("alone", "running");
    expect(vm.status.restarts).toBe(1);
    expect(vm.status.pid).not.toBe(pid);
  });

  it("by its own power-off is left alone, unless it is always to run; a stop is the last word", async () => {
    await daemon.create("off", "powerOff", { restart });
    await daemon.start("off");
    expect((await inState("off", "stopped")).status.nextStart).toBeUndefined();
    await patch("off", { restart: { ...restart, policy: "always" } });
    await daemon.start("off");
    await eventually(async () => (await status("off")).restarts >= 1);
    await post("/vms/off/stop");
    const { nextStart, state } = await status("off");
    expect({ nextStart, state }).toEqual({ nextStart: undefined, state: "stopped" });
  });

  it("a reboot of the guest is no failure", async () => {
    await daemon.run("reboots", "reset", { restart: { ...restart, limit: 1 } });
    const vm = await eventually(async () => {
      const one = await daemon.vm("reboots");
      return one.status.resets >= 3 && one;
    });
    expect(vm.status).toMatchObject({ state: "running", restarts: 0 });
  });
});

describe("the host", () => {
  it("when it has booted starts what is to start, in order", async () => {
    const events = watchEvents(daemon, "?kinds=vm.status");
    const first = { policy: "always", order: 1, delay: 0.5 };
    await daemon.create("second", "hello", { autostart: { policy: "always", order: 2 } });
    await daemon.create("first", "hello", { autostart: first });
    await daemon.create("manual", "hello");
    await daemon.run("before", "hello", { autostart: { policy: "unless-stopped", order: 3 } });
    await daemon.run("stopped", "hello", { autostart: { policy: "unless-stopped" } });
    await post("/vms/stopped/stop");
    const last = await eventually(
      () =>
        events.seen.findLast(({ vm, data }) => vm?.name === "stopped" && data.state === "stopped")
          ?.sequence,
    );
    events.end();
    await reboot();

    const after = watchEvents(daemon, `?kinds=vm.status&after=${last}`);
    await inState("before", "running");
    await eventually(() =>
      after.seen.some(({ vm, data }) => vm?.name === "before" && data.state === "running"),
    );
    const started = after.seen.filter(({ data }) => data.state === "starting");
    expect(started.map(({ vm }) => vm?.name)).toEqual(["first", "second", "before"]);
    const times = started.map(({ time }) => Date.parse(time));
    expect((times[1] ?? 0) - (times[0] ?? 0)).toBeGreaterThanOrEqual(499);
    expect((await status("manual")).state).toBe("defined");
    expect((await status("stopped")).state).toBe("stopped");
    after.end();
    // A daemon that only starts anew starts nothing.
    await post("/vms/first/stop");
    await daemon.kill("SIGKILL");
    await daemon.launch();
    await sleep(300);
    expect((await status("first")).state).toBe("stopped");
  });

  it("ended them without being asked: that is no failure", async () => {
    await daemon.run("lost", "hello", { restart: { policy: "on-failure", delay: 0 } });
    await reboot();
    expect(await status("lost")).toMatchObject({ state: "stopped", reason: "host restart" });
  });

  it("when it shuts down ends all guests, backwards, and they come back with it", async () => {
    const autostart = { policy: "unless-stopped", order: 1 };
    await daemon.run("base", "hello", { autostart, restart: { policy: "always", delay: 0 } });
    await daemon.run("upper", "hello", { autostart: { ...autostart, order: 2 } });
    const events = watchEvents(daemon, "?kinds=vm.status");
    const operation = await daemon.client.json<LongOperation>("POST", "/host/shutdown?timeout=60", {
      timeout: 10,
    });
    expect(operation).toMatchObject({
      state: "succeeded",
      result: { vms: 2 },
      progress: { done: 2, total: 2, unit: "vms" },
    });
    expect((await daemon.vm("base")).power).toBe("running");
    const ended = () =>
      events.seen.filter(({ data }) => data.state === "stopped").map(({ vm }) => vm?.name);
    await eventually(() => ended().includes("base"));
    expect(ended()).toEqual(["upper", "base"]);
    await sleep(300);
    expect((await status("base")).state).toBe("stopped");
    events.end();
    await reboot();
    await inState("upper", "running");
    await inState("base", "running");
  });
});

describe("readiness", () => {
  it("is told when the guest has printed what it should, anew after a reset", async () => {
    const readiness = [{ kind: "serial", text: "hello\r\n", interval: 0.1 }];
    await daemon.create("speaks", "hello", { readiness });
    const vm = await daemon.client.json<VmView>("POST", "/vms/speaks/start?wait=ready&timeout=60");
    expect(vm.status).toMatchObject({ state: "running", ready: true });
    await post("/vms/speaks/reset");
    await eventually(async () => (await status("speaks")).ready === true);
    await post("/vms/speaks/stop");
    expect((await status("speaks")).ready).toBeUndefined();
  });

  it("is false until all probes hold", async () => {
    const server = createServer((socket) => socket.destroy());
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as { port: number };
    await new Promise((resolve) => server.close(resolve));
    const readiness = [
      { kind: "serial", text: "hello", interval: 0.1 },
      { kind: "tcp", host: "127.0.0.1", port, interval: 0.1 },
    ];
    await daemon.create("both", "hello", { readiness });
    const started = await daemon.client.json<VmView>(
      "POST",
      "/vms/both/start?wait=ready&timeout=1",
    );
    expect(started.status).toMatchObject({ state: "running", ready: false });
    await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
    await eventually(async () => (await status("both")).ready === true);
    await daemon.kill("SIGKILL");
    await daemon.launch();
    expect((await status("both")).ready).toBe(true);
    server.close();
  });
});
