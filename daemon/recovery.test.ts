// Sudden ends: of a VM's process, of the daemon, of both. What was acknowledged stands, VMs go on
// without a daemon, and the next one knows all of it.
import { existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import Database from "better-sqlite3";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { VmView } from "../api-schema/index.js";
import { eventually, killed, TestDaemon } from "../test/daemon/daemon.js";
import { PERIOD } from "../test/daemon/guests.js";
import { isAlive } from "../test/daemon/processes.js";

let daemon: TestDaemon;
beforeEach(async () => {
  daemon = await TestDaemon.start();
});
afterEach(() => daemon.end());

const post = (path: string): Promise<VmView> => daemon.client.json("POST", path);
const pidOf = async (name: string): Promise<number> => (await daemon.vm(name)).status.pid ?? 0;
/** A daemon that waits for a request to tell it, or for its time limits, takes longer. */
const SOON_MS = 15_000;
const restart = async (): Promise<void> => {
  await daemon.kill("SIGKILL");
  await daemon.launch();
};

describe("the end of a VM's process", () => {
  it.each(["SIGKILL", "SIGSEGV"] as const)("by %s is told at once", async (signal) => {
    const { status } = await daemon.run("dies", "count");
    const other = await daemon.run("lives", "count");
    const began = Date.now();
    process.kill(status.pid ?? 0, signal);
    const after = await eventually(async () => {
      const vm = await daemon.vm("dies");
      return vm.status.state !== "running" && vm.status;
    });
    expect(Date.now() - began).toBeLessThan(SOON_MS);
    expect(after).toMatchObject({ state: "failed", reason: "killed by signal", signal });
    expect(after.pid).toBeUndefined();
    expect((await daemon.vm("lives")).status).toEqual(other.status);

    const kept = (await daemon.history("dies")).length;
    expect((await daemon.start("dies")).status.state).toBe("running");
    const whole = await eventually(async () => {
      const history = await daemon.history("dies");
      return history.length > kept && history;
    });
    expect(whole[kept]).toBe(0); // the guest counts from 0 again
    expect(whole[kept - 1]).toBe((kept - 1) % PERIOD);
  });

  it("that hangs does not hold the daemon up, and a stop ends it", async () => {
    const pid = (await daemon.run("hangs", "hello")).status.pid ?? 0;
    process.kill(pid, "SIGSTOP");
    const pausing = daemon.raw("POST", "/v1/vms/hangs/pause");
    expect((await daemon.vm("hangs")).status.state).toBe("running");
    const vm = await post("/vms/hangs/stop");
    expect(vm.status).toMatchObject({ state: "stopped", reason: "stop requested" });
    expect(isAlive(pid)).toBe(false);
    expect((await pausing).status).toBeGreaterThanOrEqual(400);
  });
});

describe("the end of the daemon", () => {
  it("leaves VMs running, with consoles whole, and the next one governs them", async () => {
    await daemon.run("a", "count");
    await daemon.run("b", "count", { cpus: 2 });
    const before = [await pidOf("a"), await pidOf("b")];
    const seen = (await daemon.history("a")).length;
    await daemon.kill("SIGKILL");
    await sleep(300);
    expect(before.every(isAlive)).toBe(true);
    await daemon.launch();

    expect([await pidOf("a"), await pidOf("b")]).toEqual(before);
    const history = await eventually(async () => {
      const now = await daemon.history("a");
      return now.length > seen && now;
    });
    expect(history.findIndex((byte, index) => byte !== index % PERIOD)).toBe(-1);

    expect((await post("/vms/a/pause")).status.state).toBe("paused");
    const paused = (await daemon.history("a")).length;
    expect((await post("/vms/a/resume")).status.state).toBe("running");
    await eventually(async () => (await daemon.history("a")).length > paused);
    expect((await post("/vms/a/reset")).status.resets).toBe(1);
    expect((await post("/vms/a/stop")).status).toMatchObject({
      state: "stopped",
      reason: "stop requested",
    });
    expect((await daemon.vm("b")).status.state).toBe("running");
    expect((await daemon.start("a")).status.state).toBe("running");
  });

  it("by SIGTERM leaves them running too; the stream and the echo work again", async () => {
    await daemon.run("echo", "echo");
    await eventually(async () => (await daemon.history("echo")).includes("ready"));
    await daemon.kill("SIGTERM");
    await daemon.launch();
    const socket = daemon.client.stream("/vms/echo/console/stream?offset=0");
    let text = "";
    socket.on("message", (data: Buffer, binary: boolean) => {
      if (binary) text += data.toString();
    });
    socket.once("open", () => socket.send(Buffer.from("again")));
    await eventually(() => text === "ready\r\nagain");
    socket.close();
  });

  it("and of a VM meanwhile: its real reason is known", async () => {
    await daemon.run("crashed", "count");
    await daemon.run("faults", "tripleFaultLate");
    await daemon.run("leaves", "powerOffLate");
    const pids = await Promise.all(["crashed", "faults", "leaves"].map(pidOf));
    await daemon.kill("SIGKILL");
    process.kill(pids[0] ?? 0, "SIGKILL");
    await eventually(() => !pids.some(isAlive));
    await daemon.launch();
    const status = async (name: string) => (await daemon.vm(name)).status;
    expect(await status("leaves")).toMatchObject({
      state: "stopped",
      reason: "guest power-off",
      exitStatus: 1,
    });
    expect(await status("faults")).toMatchObject({
      state: "failed",
      reason: "guest triple fault",
      exitStatus: 3,
    });
    expect(await status("crashed")).toMatchObject({ state: "failed", reason: "killed by signal" });
    expect((await status("leaves")).pid).toBeUndefined();
  });

  it("an adopted VM's end is told at once", async () => {
    const { status } = await daemon.run("adopted", "count");
    await restart();
    const began = Date.now();
    process.kill(status.pid ?? 0, "SIGKILL");
    await eventually(async () => (await daemon.vm("adopted")).status.state === "failed");
    expect(Date.now() - began).toBeLessThan(SOON_MS);
  });

  it("an adopted VM that hangs is shown, and can be stopped", async () => {
    const { status } = await daemon.run("hangs", "hello");
    process.kill(status.pid ?? 0, "SIGSTOP");
    await restart();
    expect((await daemon.vm("hangs")).status).toMatchObject({ state: "running", pid: status.pid });
    expect((await daemon.refusal("POST", "/vms/hangs/pause")).code).toBe("VM_PROCESS_GONE");
    expect((await post("/vms/hangs/stop")).status.state).toBe("stopped");
    expect(isAlive(status.pid ?? 0)).toBe(false);
  });

  it("at any moment of a start leaves no process that nobody knows", async () => {
    await daemon.create("torn", "hello");
    for (const delay of [0, 30, 60, 90, 120, 150]) {
      const asked = daemon.raw("POST", "/v1/vms/torn/start").catch(() => undefined);
      await sleep(delay);
      await daemon.kill("SIGKILL");
      await asked;
      await daemon.launch();
      const { status } = await daemon.vm("torn");
      if (status.state === "running") expect(isAlive(status.pid ?? 0)).toBe(true);
      await post("/vms/torn/stop");
      await eventually(() => !daemon.vmPids().some(isAlive));
      expect((await daemon.start("torn")).status.state).toBe("running");
      await post("/vms/torn/stop");
    }
  });

  it("never takes another process for the VM's", async () => {
    const { uuid, status } = await daemon.run("stranger", "hello");
    await daemon.kill("SIGKILL");
    await killed(status.pid);
    const db = new Database(join(daemon.folder, "state", "registry.db"));
    const record = JSON.parse(
      db.prepare("SELECT process FROM vms WHERE uuid = ?").pluck().get(uuid) as string,
    );
    db.prepare("UPDATE vms SET process = ? WHERE uuid = ?").run(
      JSON.stringify({ ...record, pid: process.pid }),
      uuid,
    );
    db.close();
    await daemon.launch();
    expect((await daemon.vm("stranger")).status.state).toBe("failed");
    expect((await post("/vms/stranger/stop")).status.state).toBe("failed");
  });

  it("loses nothing that was acknowledged", async () => {
    for (let round = 0; round < 3; round++) {
      await daemon.create(`vm${round}`, "hello", { labels: { round: String(round) } });
      await restart();
    }
    const { vms } = await daemon.client.json<{ vms: VmView[] }>("GET", "/vms");
    expect(vms.map(({ name }) => name)).toEqual(["vm0", "vm1", "vm2"]);
    await daemon.client.json("DELETE", "/vms/vm1");
    await restart();
    expect((await daemon.refusal("GET", "/vms/vm1")).code).toBe("VM_NOT_FOUND");
  });

  it("a row that cannot be read stops none of the others", async () => {
    await daemon.create("good", "hello");
    const { uuid } = await daemon.create("bad", "hello");
    await daemon.kill("SIGKILL");
    const db = new Database(join(daemon.folder, "state", "registry.db"));
    db.prepare("UPDATE vms SET definition = '{' WHERE uuid = ?").run(uuid);
    db.close();
    await daemon.launch();
    expect((await daemon.vm("good")).status.state).toBe("defined");
    expect((await daemon.refusal("GET", "/vms/bad")).status).toBe(404);
    expect(daemon.output).toContain(uuid);
  });

  it("and a reboot: the runtime folder is empty, the VMs are shown as ended", async () => {
    await daemon.run("gone", "count");
    const pids = daemon.vmPids();
    await daemon.kill("SIGKILL");
    for (const pid of pids) process.kill(pid, "SIGKILL");
    await eventually(() => !pids.some(isAlive));
    rmSync(join(daemon.folder, "run"), { recursive: true });
    mkdirSync(join(daemon.folder, "run"), { mode: 0o700 });
    writeFileSync(join(daemon.folder, "run", "xhyved.sock"), "not a socket");
    await daemon.launch();
    expect((await daemon.vm("gone")).status.state).toBe("failed");
    expect((await daemon.start("gone")).status.state).toBe("running");
  });

  /** Between two daemons; the row's VM is found by its name. */
  async function tamper(sql: string, name: string): Promise<void> {
    await daemon.kill("SIGKILL");
    const db = new Database(join(daemon.folder, "state", "registry.db"));
    expect(db.prepare(sql).run(name).changes).toBe(1);
    db.close();
    await daemon.launch();
  }

  it("a VM that runs and that the registry has lost is taken in again", async () => {
    const { uuid, status } = await daemon.run("lost", "count", { labels: { a: "b" } });
    await tamper("DELETE FROM vms WHERE name = ?", "lost");
    const vm = await daemon.vm("lost");
    expect(vm).toMatchObject({
      uuid,
      power: "running",
      definition: { labels: { a: "b" } },
      status: { state: "running", pid: status.pid },
    });
    expect((await post("/vms/lost/stop")).status.state).toBe("stopped");
  });

  it("so is one whose row cannot be read", async () => {
    const { uuid, status } = await daemon.run("torn", "count");
    await tamper("UPDATE vms SET definition = '{' WHERE name = ?", "torn");
    expect(await daemon.vm("torn")).toMatchObject({
      uuid,
      status: { state: "running", pid: status.pid },
    });
    await restart();
    expect((await daemon.vm("torn")).status.pid).toBe(status.pid);
  });

  it("a VM that the registry says is off, and that runs, is not started twice", async () => {
    const { uuid, status } = await daemon.run("twice", "count");
    await tamper(
      `UPDATE vms SET status = json_set(status, '$.state', 'stopped'), process = NULL
       WHERE name = ?`,
      "twice",
    );
    expect(await daemon.vm("twice")).toMatchObject({
      uuid,
      status: { state: "running", pid: status.pid },
    });
    expect((await daemon.refusal("POST", "/vms/twice/start")).code).toBe("VM_STATE_FORBIDS");
    expect(daemon.vmPids()).toEqual([status.pid]);
  });

  it("what a deleted VM left behind is cleared away, and nothing else", async () => {
    const { uuid } = await daemon.create("gone", "powerOff");
    const { uuid: kept } = await daemon.create("kept", "powerOff");
    await daemon.start("gone", "stopped");
    await daemon.start("kept", "stopped");
    await daemon.client.json("DELETE", "/vms/gone");
    const run = join(daemon.folder, "run", "vm", uuid.replaceAll("-", ""));
    const state = join(daemon.folder, "state", "vms", uuid);
    const foreign = join(daemon.folder, "state", "vms", "notes");
    for (const folder of [run, state, foreign]) mkdirSync(folder, { recursive: true });
    await restart();
    expect([run, state].map((folder) => existsSync(folder))).toEqual([false, false]);
    expect(existsSync(foreign)).toBe(true);
    expect(existsSync(join(daemon.folder, "state", "vms", kept))).toBe(true);
    expect((await daemon.history("kept")).toString()).toBe("bye\r\n");
  });

  it("a kill that the daemon did not see the end of is no failure of the VM", async () => {
    const { status } = await daemon.run("ending", "hello", { restart: { policy: "always" } });
    await daemon.kill("SIGKILL");
    await killed(status.pid);
    const db = new Database(join(daemon.folder, "state", "registry.db"));
    // As the daemon stores it before it ends the process.
    db.prepare("UPDATE vms SET power = 'stopped'").run();
    db.close();
    await daemon.launch();
    expect((await daemon.vm("ending")).status).toMatchObject({
      state: "stopped",
      reason: "stop requested",
    });
  });

  it("a stop that it had accepted, and not passed on, is finished by the next one", async () => {
    await daemon.run("stops", "hello");
    await tamper("UPDATE vms SET power = 'stopped' WHERE name = ?", "stops");
    const { status } = await eventually(async () => {
      const vm = await daemon.vm("stops");
      return vm.status.state === "stopped" && vm;
    });
    expect(status.reason).toBe("stop requested");
  });
});
