// A VM whose process is of the release before: governed until it ends. The whole of that release,
// built anew, is in test/system/upgrade.test.ts.
import { spawn } from "node:child_process";
import { join } from "node:path";
import type { Static } from "@sinclair/typebox";
import { afterEach, beforeEach, expect, it } from "vitest";
import type { Statistics, VmView } from "../api-schema/index.js";
import { eventually, killed, TestDaemon } from "../test/daemon/daemon.js";
import { projectRoot } from "../test/guest/paths.js";

let daemon: TestDaemon;
beforeEach(async () => {
  daemon = await TestDaemon.start();
});
afterEach(() => daemon.end());

/** A running VM whose process has been exchanged for one that speaks protocol 1. */
async function withOlderProcess(name: string): Promise<number> {
  const { uuid, status } = await daemon.run(name, "hello");
  await daemon.kill("SIGKILL");
  await killed(status.pid);
  const folder = join(daemon.folder, "run", "vm", uuid.replaceAll("-", ""));
  const program = join(projectRoot, "dist", "test", "daemon", "protocol-1.js");
  const child = spawn(process.execPath, [program, folder], { detached: true, stdio: "ignore" });
  child.unref();
  await eventually(() => daemon.vmPids().includes(child.pid ?? 0));
  await daemon.launch();
  return child.pid ?? 0;
}

it("is taken back, looked at, paused, resumed and stopped in its own protocol", async () => {
  const pid = await withOlderProcess("older");
  const vm = await eventually(async () => {
    const one = await daemon.vm("older");
    return one.status.state === "running" && one;
  });
  expect(vm.status.pid).toBe(pid);
  const post = (verb: string): Promise<VmView> => daemon.client.json("POST", `/vms/older/${verb}`);
  expect((await post("pause")).status.state).toBe("paused");
  expect((await post("resume")).status.state).toBe("running");
  const statistics = await daemon.client.json<Static<typeof Statistics>>(
    "GET",
    "/vms/older/statistics",
  );
  expect(statistics).toMatchObject({ cpuUser: 1, vcpus: [{ halts: 3 }] });
  expect((await daemon.raw("GET", "/metrics")).text).toContain('xhyved_vm_up{vm="older"');
  expect((await post("stop")).status).toMatchObject({ state: "stopped", reason: "stop requested" });
  // And then runs in a process of this release.
  expect((await daemon.start("older")).status.state).toBe("running");
});

it("that lacks what a client asks for is told apart from one that is broken", async () => {
  await withOlderProcess("lacks");
  const problem = await daemon.refusal("POST", "/vms/lacks/reset");
  expect(problem).toMatchObject({ status: 409, code: "VM_PROCESS_OLD" });
  expect(problem.detail).toContain("has no reset");
  expect((await daemon.vm("lacks")).status.state).toBe("running");
});
