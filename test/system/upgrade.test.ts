// From the release before this one: its daemon is killed with VMs running, and this one goes on
// with its database and its VM processes.
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { VmView } from "../../api-schema/index.js";
import { eventually, TestDaemon } from "../daemon/daemon.js";
import { PERIOD } from "../daemon/guests.js";
import { previousRelease } from "../daemon/previous-release.js";

const previous = previousRelease();

describe.skipIf(previous === undefined)("an upgrade from the previous release", () => {
  let daemon: TestDaemon;
  beforeAll(async () => {
    daemon = await TestDaemon.startOther(previous ?? "");
  });
  afterAll(() => daemon.end());

  const post = (name: string, verb: string): Promise<VmView> =>
    daemon.client.json("POST", `/vms/${name}/${verb}`);

  it("takes its VMs back and governs them to their end", async () => {
    const old = await daemon.run("counts", "count", { labels: { kept: "yes" } });
    await daemon.create("off", "powerOff");
    await daemon.run("paused", "hello");
    await post("paused", "pause");
    const seen = (await daemon.history("counts")).length;
    await daemon.kill("SIGKILL");
    await daemon.launch();

    const vm = await daemon.vm("counts");
    expect(vm).toMatchObject({
      power: "running",
      definition: { labels: { kept: "yes" }, restart: { policy: "never" } },
      status: { state: "running", pid: old.status.pid },
    });
    expect(await daemon.vm("paused")).toMatchObject({
      power: "paused",
      status: { state: "paused" },
    });
    expect((await daemon.vm("off")).status.state).toBe("defined");
    const history = await eventually(async () => {
      const now = await daemon.history("counts");
      return now.length > seen && now;
    });
    expect(history.findIndex((byte, index) => byte !== index % PERIOD)).toBe(-1);

    expect((await post("counts", "pause")).status.state).toBe("paused");
    expect((await post("counts", "resume")).status.state).toBe("running");
    expect((await post("counts", "reset")).status.resets).toBe(1);
    expect((await post("counts", "stop")).status).toMatchObject({
      state: "stopped",
      reason: "stop requested",
    });
    expect((await post("paused", "resume")).status.state).toBe("running");
    process.kill((await daemon.vm("paused")).status.pid ?? 0, "SIGKILL");
    await eventually(async () => (await daemon.vm("paused")).status.state === "failed");
  });

  it("starts them anew in processes of this release, and left a backup of the database", async () => {
    expect((await daemon.start("counts")).status.state).toBe("running");
    expect((await daemon.start("off", "stopped")).status.reason).toBe("guest power-off");
    expect(readdirSync(join(daemon.folder, "state"))).toContain("registry.db.version-1");
  });
});
