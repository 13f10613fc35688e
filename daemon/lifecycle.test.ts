// Real VMs under a real daemon: what each verb does, how each guest's end is told apart.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  HostInformation,
  parse,
  Statistics,
  VcpuRegisters,
  type VmView,
  VmView as VmViewSchema,
} from "../api-schema/index.js";
import { eventually, TestDaemon } from "../test/daemon/daemon.js";

let daemon: TestDaemon;
beforeAll(async () => {
  daemon = await TestDaemon.start();
});
afterAll(() => daemon.end());

const post = (path: string): Promise<VmView> => daemon.client.json("POST", path);
const status = async (name: string): Promise<VmView["status"]> => (await daemon.vm(name)).status;
const printed = (name: string, text: string): Promise<true> =>
  eventually(async () => (await daemon.history(name)).includes(text) || undefined);

describe("a guest's own end", () => {
  it.each([
    ["powerOff", { state: "stopped", reason: "guest power-off", exitStatus: 1 }, "bye\r\n"],
    ["halt", { state: "stopped", reason: "guest halt", exitStatus: 2 }, "halt\r\n"],
    ["tripleFault", { state: "failed", reason: "guest triple fault", exitStatus: 3 }, "oops\r\n"],
  ] as const)("%s is told apart", async (guest, expected, output) => {
    await daemon.create(guest, guest);
    const vm = await daemon.start(guest, "stopped");
    expect(vm.status).toMatchObject(expected);
    expect(vm.status.pid).toBeUndefined();
    expect((await daemon.history(guest)).toString()).toBe(output);
  });

  it("a reset restarts in the same process, and is counted", async () => {
    const { status: first } = await daemon.run("resets", "reset");
    const later = await eventually(async () => {
      const now = await status("resets");
      return now.resets >= 2 && now;
    });
    expect(later).toMatchObject({ state: "running", pid: first.pid });
    await post("/vms/resets/stop");
    expect((await daemon.history("resets")).toString()).toMatch(/^(again\r\n){3,}$/);
  });
});

describe("the verbs", () => {
  it("start, pause, resume, reset and stop", async () => {
    await daemon.run("verbs", "hello");
    await printed("verbs", "hello");
    expect((await post("/vms/verbs/pause")).status.state).toBe("paused");
    expect((await post("/vms/verbs/pause")).status.state).toBe("paused");
    expect((await post("/vms/verbs/resume")).status.state).toBe("running");
    expect((await post("/vms/verbs/reset")).status).toMatchObject({ state: "running", resets: 1 });
    expect((await post("/vms/verbs/stop")).status).toMatchObject({
      state: "stopped",
      reason: "stop requested",
    });
    expect((await post("/vms/verbs/stop")).status.state).toBe("stopped");
  });

  it("a VM that is off can be changed, started again and deleted", async () => {
    await daemon.create("again", "powerOff");
    await daemon.start("again", "stopped");
    const changed = await daemon.client.json<VmView>("PATCH", "/vms/again", {
      cpus: 2,
      labels: { a: "b" },
    });
    expect(changed).toMatchObject({ generation: 2, definition: { cpus: 2, labels: { a: "b" } } });
    const back = await daemon.client.json<VmView>("PATCH", "/vms/again", { cpus: null });
    expect(back.definition.cpus).toBe(1);
    expect((await daemon.start("again", "stopped")).status.reason).toBe("guest power-off");
    expect((await daemon.history("again")).toString()).toBe("bye\r\nbye\r\n");
    await daemon.client.json("DELETE", "/vms/again");
    expect((await daemon.refusal("GET", "/vms/again")).code).toBe("VM_NOT_FOUND");
  });

  it("a shutdown of a guest that does not listen stops it at once", async () => {
    await daemon.run("deaf", "hello");
    await post("/vms/deaf/shutdown?wait=stopped");
    expect(await status("deaf")).toMatchObject({ state: "stopped", reason: "stop requested" });
  });

  it("a wait ends when the VM is off and will not come to that state", async () => {
    await daemon.create("never", "halt");
    const began = Date.now();
    const vm = await post("/vms/never/start?wait=paused&timeout=60");
    expect(vm.status.state).toBe("stopped");
    expect(Date.now() - began).toBeLessThan(45_000);
  });

  it("two starts at the same time: one starts, one is refused", async () => {
    await daemon.create("twice", "hello");
    const answers = await Promise.all([
      daemon.raw("POST", "/v1/vms/twice/start"),
      daemon.raw("POST", "/v1/vms/twice/start"),
    ]);
    expect(answers.map(({ status: code }) => code).sort()).toEqual([200, 409]);
    await post("/vms/twice/stop");
  });

  it("stop overtakes a start that is under way, and leaves nothing behind", async () => {
    await daemon.create("hasty", "hello");
    const starting = daemon.raw("POST", "/v1/vms/hasty/start");
    await eventually(async () => (await status("hasty")).state !== "defined");
    await post("/vms/hasty/stop");
    await starting;
    expect(["defined", "stopped"]).toContain((await status("hasty")).state);
    expect((await daemon.start("hasty")).status.state).toBe("running");
    await post("/vms/hasty/stop");
  });
});

describe("what can be seen", () => {
  it("the list is sorted by name and made of whole views", async () => {
    const { vms } = await daemon.client.json<{ vms: unknown[] }>("GET", "/vms");
    const names = vms.map((vm) => parse(VmViewSchema, vm).name);
    expect(names).toEqual([...names].sort());
  });

  it("statistics and registers", async () => {
    const { uuid } = await daemon.run("seen", "echo", { cpus: 2 });
    await printed("seen", "ready");
    const statistics = parse(Statistics, await daemon.client.json("GET", "/vms/seen/statistics"));
    expect(statistics.vcpus).toHaveLength(2);
    expect(statistics.vcpus[0]?.instructions).toBeGreaterThan(0);
    expect((await daemon.refusal("GET", "/vms/seen/vcpus/0")).code).toBe("VM_STATE_FORBIDS");
    await post("/vms/seen/pause");
    const path = `/vms/${uuid.toUpperCase()}/vcpus/0`;
    const registers = parse(VcpuRegisters, await daemon.client.json("GET", path));
    expect(JSON.stringify(registers.state)).toContain("rip");
    expect((await daemon.refusal("GET", "/vms/seen/vcpus/2")).code).toBe("VCPU_NOT_FOUND");
    await post("/vms/seen/stop");
  });

  it("the host: accelerators, and which is taken and why", async () => {
    const host = parse(HostInformation, await daemon.client.json("GET", "/host"));
    expect(host.accelerators.map(({ name }) => name)).toContain("soft");
    const chosen = host.accelerators.find(({ name }) => name === host.chosen.name);
    expect(chosen?.usable).toBe(true);
    expect(host.chosen.reason).not.toBe("");
    expect(host.cpus).toBeGreaterThan(0);
  });
});
