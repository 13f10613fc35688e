// Networks as objects of the daemon, used by network cards by name.
import { readFileSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { runtimeFiles } from "../api-schema/index.js";
import { problemOf, TestDaemon } from "../test/daemon/daemon.js";

let daemon: TestDaemon;
let uplink: Server;
beforeAll(async () => {
  daemon = await TestDaemon.start();
  uplink = createServer().listen(socket());
});
afterAll(async () => {
  await daemon.end();
  uplink.close();
});

const socket = (): string => join(daemon.folder, "uplink.sock");
const card = (more: object) => ({
  devices: [
    { slot: "0:0", type: "hostbridge" },
    { slot: "31:0", type: "lpc" },
    { slot: "4:0", type: "virtio-net", ...more },
  ],
});
const pluggedInto = async (vm: string): Promise<string> => {
  const { networks } = await daemon.client.call("listNetworkCards", { vm });
  return networks.map(({ backend, detail }) => `${backend} ${detail}`).join();
};

it("is what a card is plugged into by its name, from the next start on where it is changed", async () => {
  const made = await daemon.client.call("createNetwork", {
    body: { name: "lan", backend: { kind: "switch" }, labels: { site: "a" } },
  });
  expect(made).toMatchObject({ name: "lan", generation: 1, usedBy: [] });
  const vm = await daemon.create("web", "hello", card({ network: "lan" }));
  expect(vm.definition.devices.at(-1)).not.toHaveProperty("backend");
  await daemon.start("web");
  expect(await pluggedInto("web")).toBe("switch lan");
  const body = { backend: { kind: "stream", socket: socket() }, mtu: 1400 };
  const changed = await daemon.client.call("changeNetwork", { network: "lan", body });
  expect(changed).toMatchObject({ generation: 2, usedBy: ["web"], labels: { site: "a" } });
  expect(await pluggedInto("web")).toBe("switch lan");
  await daemon.client.call("killVm", { vm: "web" });
  await daemon.start("web");
  expect(await pluggedInto("web")).toBe(`stream ${socket()}`);
  expect((await daemon.vm("web")).generation).toBe(vm.generation);
});

it("is not deleted under VMs, all of which are named", async () => {
  await daemon.create("db", "hello", card({ network: "lan" }));
  const held = problemOf(await daemon.raw("DELETE", "/v1/networks/lan"));
  expect(held).toMatchObject({ status: 409, code: "STORED_NETWORK_IN_USE" });
  expect(held.detail).toBe("network lan is used by db, web");
  await daemon.client.call("deleteVm", { vm: "db" });
});

it("is kept over a sudden end of the daemon, as is a VM's card whose row is lost", async () => {
  await daemon.kill("SIGKILL");
  await daemon.launch();
  const lan = await daemon.client.call("getNetwork", { network: "lan" });
  expect(lan).toMatchObject({ generation: 2, mtu: 1400, usedBy: ["web"] });
  const { uuid } = await daemon.vm("web");
  const launched = JSON.parse(
    readFileSync(
      join(daemon.folder, "run", "vm", uuid.replaceAll("-", ""), runtimeFiles.launch),
      "utf8",
    ),
  ) as { definition: { devices: object[] } };
  const backend = { kind: "stream", socket: socket() };
  expect(launched.definition.devices.at(-1)).toMatchObject({ network: "lan", backend });
});

it("is refused with the place of what is wrong", async () => {
  const refused = async (body: object): Promise<unknown> => {
    const { errors } = await daemon.refusal("POST", "/networks", body);
    return errors?.map(({ pointer, detail }) => `${pointer} ${detail}`);
  };
  expect(await refused({ name: "x", backend: { kind: "token-ring" } })).toEqual([
    "#/backend/kind must be one of switch, bridge, user, vmnet, stream",
  ]);
  expect(await refused({ name: "a b", backend: { kind: "bridge" } })).toEqual([
    expect.stringMatching(/^#\/name must be 1 to 32 letters/),
    expect.stringMatching(/^#\/backend\/bridge is missing: must be an interface's name/),
  ]);
  expect(await refused({ name: "x", backend: { kind: "vmnet", mode: "bridged" } })).toEqual([
    "#/backend/interface is missing: the mode bridged needs an interface of the host",
  ]);
  expect(await refused({ name: "x", backend: { kind: "stream", socket: "rel" } })).toEqual([
    "#/backend/socket rel is not an absolute path; the daemon has no current folder",
  ]);
  const renamed = problemOf(
    await daemon.raw("PATCH", "/v1/networks/lan", {
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ name: "wan" }),
    }),
  );
  expect(renamed.errors?.[0]?.pointer).toBe("#/name");
  const twice = await daemon.refusal("POST", "/vms", {
    name: "twice",
    boot: { kind: "multiboot", kernel: daemon.guestFile("hello") },
    ...card({ network: "lan", backend: { kind: "none" } }),
  });
  expect(twice.errors?.[0]?.pointer).toBe("#/devices/2/backend");
});

it("tells of all that is wrong in a dry run, and changes nothing", async () => {
  const dry = await daemon.refusal("POST", "/networks?dryRun=true", {
    name: "lan",
    backend: { kind: "vmnet", interface: "en0" },
  });
  expect(dry).toMatchObject({ status: 422, code: "DRY_RUN_FAILED" });
  expect(dry.errors?.map(({ pointer }) => pointer)).toEqual(["#/backend/interface", "#/name"]);
  const body = { name: "dry", backend: { kind: "switch" as const }, labels: {} };
  const would = await daemon.client.call("createNetwork", { body, dryRun: true });
  expect(would).toMatchObject({ name: "dry", generation: 1 });
  const { networks } = await daemon.client.call("listNetworks", {});
  expect(networks.map(({ name }) => name)).toEqual(["lan"]);
});

it("comes in pages, by name and labels, and tells of what happens", async () => {
  for (const name of ["c", "a", "b"]) {
    const body = { name, backend: { kind: "switch" as const }, labels: { tier: name } };
    await daemon.client.call("replaceNetwork", { network: name, body });
    const again = await daemon.client.call("replaceNetwork", { network: name, body });
    expect(again.generation).toBe(1);
  }
  const names = async (query: { name?: string; labels?: string; limit?: number }) =>
    (await daemon.client.call("listNetworks", query)).networks.map(({ name }) => name);
  expect(await names({})).toEqual(["a", "b", "c", "lan"]);
  expect(await names({ labels: "tier" })).toEqual(["a", "b", "c"]);
  expect(await names({ labels: "tier=b" })).toEqual(["b"]);
  expect(await names({ name: "l*" })).toEqual(["lan"]);
  const first = await daemon.client.call("listNetworks", { limit: 3 });
  const rest = await daemon.client.call("listNetworks", { cursor: first.next ?? "" });
  expect([first.networks.length, rest.networks.map(({ name }) => name)]).toEqual([3, ["lan"]]);
  await daemon.client.call("deleteNetwork", { network: "c", ifMatch: 1 });
  const told: unknown[] = [];
  const stop = new AbortController();
  const query = { after: 0, kinds: "network" };
  for await (const { data } of daemon.client.events("watchEvents", query, {
    after: 0,
    signal: stop.signal,
  })) {
    told.push(`${data.kind} ${String(data.data.network)} ${String(data.data.generation)}`);
    if (data.kind === "network.deleted") break;
  }
  stop.abort();
  expect(told).toEqual([
    ...["network.created lan 1", "network.changed lan 2"],
    ...["network.created c 1", "network.created a 1", "network.created b 1"],
    "network.deleted c 1",
  ]);
});
