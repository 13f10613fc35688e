// xhyvectl's longer work against a real daemon.
import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import type { LongOperation } from "../../api-schema/index.js";
import { eventually, TestDaemon } from "../../test/daemon/daemon.js";
import { projectRoot } from "../../test/guest/paths.js";
import { escapeByte } from "./console.js";

let daemon: TestDaemon;
beforeEach(async () => {
  daemon = await TestDaemon.start();
});
afterEach(() => daemon.end());

interface Running {
  readonly child: ChildProcess;
  out(): string;
  err(): string;
  readonly status: Promise<number | null>;
}

function begin(...args: string[]): Running {
  const child = spawn(join(projectRoot, "bin", "xhyvectl"), args, {
    env: { ...process.env, XHYVED_SOCKET: daemon.socket },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let [out, err] = ["", ""];
  child.stdout.on("data", (data: Buffer) => {
    out += data.toString("latin1");
  });
  child.stderr.on("data", (data: Buffer) => {
    err += data.toString();
  });
  const status = new Promise<number | null>((resolve) => child.once("close", resolve));
  return { child, out: () => out, err: () => err, status };
}

async function ctl(
  ...args: string[]
): Promise<{ status: number | null; out: string; err: string }> {
  const running = begin(...args);
  const status = await running.status;
  return { status, out: running.out(), err: running.err() };
}

it("clones with copies of disks, and lists what it did", async () => {
  const disk = daemon.file("disk.img", Buffer.alloc(2 ** 20, 7));
  const copy = join(daemon.folder, "copy.img");
  await daemon.create("golden", "hello", {
    devices: [
      { slot: "3:0", type: "virtio-blk", path: disk },
      { slot: "4:0", type: "virtio-net", backend: { kind: "none" }, mac: "02:00:5e:00:53:01" },
      { slot: "31:0", type: "lpc" },
    ],
  });
  expect((await ctl("clone", "golden", "web")).err).toContain("slot 3:0");
  const cloned = await ctl("clone", "golden", "web", "--disk", `3:0=${copy}`);
  expect(cloned).toMatchObject({ status: 0, err: "" });
  expect(cloned.out).toMatch(/^web is defined \([0-9a-f-]{36}\)\n$/);
  expect(readFileSync(copy).equals(readFileSync(disk))).toBe(true);
  const [, network] = (await daemon.vm("web")).definition.devices;
  expect(network).toEqual({ slot: "4:0", type: "virtio-net", backend: { kind: "none" } });
  expect((await ctl("operations")).out).toMatch(/vm\.clone +succeeded +100 %/);
  const [operation] = JSON.parse((await ctl("operations", "--json")).out) as LongOperation[];
  const late = await ctl("cancel", operation?.id ?? "");
  expect(late).toMatchObject({ status: 1, out: "" });
  expect(late.err).toContain("is succeeded");
});

it("shuts all down, and does so when a guard is ended", async () => {
  await daemon.run("a", "hello");
  await daemon.run("b", "hello");
  expect(await ctl("shutdown", "--all", "--timeout", "5")).toMatchObject({
    status: 0,
    out: "2 VMs are off\n",
  });
  await daemon.start("a");
  const guard = begin("guard", "--timeout", "5");
  await eventually(() => guard.err().includes("awaited"));
  expect((await daemon.vm("a")).status.state).toBe("running");
  guard.child.kill("SIGTERM");
  expect(await guard.status).toBe(0);
  expect(guard.out()).toBe("1 VMs are off\n");
  expect(await daemon.vm("a")).toMatchObject({ power: "running", status: { state: "stopped" } });
});

it("kills, and waits for a guest to be ready", async () => {
  const readiness = [{ kind: "serial", text: "hello", interval: 0.1 }];
  await daemon.create("r", "hello", { readiness });
  expect((await ctl("start", "r", "--wait", "ready")).out).toBe("r is running\n");
  expect((await daemon.vm("r")).status.ready).toBe(true);
  expect((await ctl("kill", "r")).out).toContain("r is stopped");
});

it("follows a console over runs of the VM and of the daemon", async () => {
  await daemon.create("talks", "powerOff");
  await daemon.start("talks", "stopped");
  expect((await ctl("console", "talks", "--log")).out).toBe("bye\r\n");
  const follower = begin("console", "talks", "--log", "--follow");
  await eventually(() => follower.out() === "bye\r\n");
  await daemon.start("talks", "stopped");
  await eventually(() => follower.out() === "bye\r\nbye\r\n");
  await daemon.kill("SIGKILL");
  await daemon.launch();
  await daemon.start("talks", "stopped");
  await eventually(() => follower.out() === "bye\r\n".repeat(3));
  follower.child.kill("SIGINT");
  expect(await follower.status).toBe(0);
  const nobody = await ctl("console", "nobody", "--follow");
  expect(nobody).toMatchObject({ status: 1, err: "xhyvectl: there is no VM nobody\n" });
});

it("knows escape keys by their usual names", () => {
  expect(escapeByte("^]")).toBe(0x1d);
  expect(escapeByte("^a")).toBe(0x01);
  expect(escapeByte("none")).toBeUndefined();
  expect(() => escapeByte("q")).toThrow(/--escape/);
});
