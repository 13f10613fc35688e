// What a definition says for the guest's cloud-init: how it is checked, where its disc lies, and who is
// shown it.
import { existsSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { eventually, rawRequest, TestDaemon } from "../test/daemon/daemon.js";

const SECRET = "hunter2-correct-horse";
let daemon: TestDaemon;
beforeAll(async () => {
  daemon = await TestDaemon.start(["--listen", "127.0.0.1:0", "--log-level", "debug"]);
});
afterAll(() => daemon.end());

const cloudInit = {
  hostname: "web-1",
  userData: `#cloud-config\npassword: ${SECRET}\n`,
  metaData: { note: SECRET },
};
const disc = (uuid: string): string => join(daemon.folder, "state", "vms", uuid, "cloud-init.iso");

it("is a disc in a drive of its own, made at each start, gone with the VM", async () => {
  const { uuid, definition, generation } = await daemon.create("web", "hello", { cloudInit });
  const slot = definition.cloudInit?.slot ?? "";
  expect(slot).toBe("1:0");
  expect(existsSync(disc(uuid))).toBe(false);
  await daemon.start("web");
  const first = readFileSync(disc(uuid));
  expect(first.includes(SECRET)).toBe(true);
  expect(statSync(disc(uuid)).mode & 0o777).toBe(0o600);
  // The drive is the daemon's: no client changes what lies there.
  expect(await daemon.client.call("listMedia", { vm: "web" })).toEqual({ drives: [] });
  const eject = await daemon.refusal("PUT", `/vms/web/media/${slot}`, {});
  expect(eject.code).toBe("DRIVE_NOT_FOUND");
  await daemon.client.call("killVm", { vm: "web" });

  const body = { ...definition, cloudInit: { ...cloudInit, hostname: "web-2" } };
  const changed = await daemon.client.call("replaceVm", { vm: "web", body });
  expect(changed).toMatchObject({
    generation: generation + 1,
    definition: { cloudInit: { slot, hostname: "web-2" } },
  });
  await daemon.start("web");
  expect(readFileSync(disc(uuid)).equals(first)).toBe(false);
  await daemon.client.call("killVm", { vm: "web" });
  await daemon.client.call("changeVm", { vm: "web", body: { cloudInit: null } });
  await daemon.start("web");
  expect(existsSync(disc(uuid))).toBe(false);
  await daemon.client.call("killVm", { vm: "web" });
  await daemon.client.call("changeVm", { vm: "web", body: { cloudInit } });
  await daemon.start("web");
  await daemon.client.call("killVm", { vm: "web" });
  await daemon.client.call("deleteVm", { vm: "web" });
  expect(existsSync(disc(uuid))).toBe(false);
});

it("is in no log and no event, and shown to administrators alone", async () => {
  const { uuid } = await daemon.create("kept", "hello", { cloudInit });
  await daemon.start("kept");
  const port = await eventually(
    () => Number(/http:\/\/127\.0\.0\.1:([0-9]+)/.exec(daemon.output)?.[1]) || undefined,
  );
  const asked = async (scope: "read" | "operate" | "admin", method: string, path: string) => {
    const { token } = await daemon.client.call("createToken", {
      body: { name: `${scope}-${method}-${path.length}`, scope },
    });
    const json = { "content-type": "application/json" };
    const { text } = await rawRequest({ host: "127.0.0.1", port }, method, `/v1${path}`, {
      headers: { authorization: `Bearer ${token}`, ...(method === "POST" ? json : {}) },
      ...(method === "POST" ? { body: "{}" } : {}),
    });
    expect(text).toContain(uuid);
    return text.includes(SECRET);
  };
  expect(await asked("admin", "GET", "/vms/kept")).toBe(true);
  expect(await asked("read", "GET", "/vms/kept")).toBe(false);
  expect(await asked("read", "GET", "/vms")).toBe(false);
  expect(await asked("operate", "POST", "/vms/kept/pause")).toBe(false);
  const told: string[] = [];
  const stop = new AbortController();
  for await (const { data } of daemon.client.events(
    "watchEvents",
    { after: 0 },
    { after: 0, signal: stop.signal },
  )) {
    told.push(JSON.stringify(data));
    if (data.kind === "vm.status" && data.data.state === "paused") break;
  }
  stop.abort();
  expect(told.join("\n")).not.toContain(SECRET);
  expect(daemon.output).not.toContain(SECRET);
});

it("is refused with the place of what is wrong, which is not repeated", async () => {
  const wrong = {
    hostname: "under_score",
    userData: `password: ${SECRET}`,
    sshAuthorizedKeys: ["ssh-rsa AAAA ok", "AAAA"],
    networkConfig: { version: 3 },
    extra: 1,
  };
  const problem = await daemon.refusal("POST", "/vms", {
    name: "bad",
    boot: { kind: "multiboot", kernel: daemon.guestFile("hello") },
    cloudInit: wrong,
  });
  expect(problem).toMatchObject({ status: 400, code: "REQUEST_INVALID" });
  const places = problem.errors?.map(({ pointer, detail }) => `${pointer} ${detail}`).sort();
  expect(places).toEqual([
    "#/cloudInit/extra unexpected property",
    expect.stringMatching(/^#\/cloudInit\/hostname must be a host name/),
    "#/cloudInit/networkConfig/version must be an integer from 1 to 2",
    expect.stringMatching(/^#\/cloudInit\/sshAuthorizedKeys\/1 must be a line of authorized_keys/),
    expect.stringMatching(/^#\/cloudInit\/userData must be a text .* starts with #cloud-config/),
  ]);
  expect(JSON.stringify(problem)).not.toContain(SECRET);
});
