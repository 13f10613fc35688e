// The examples do what they say, and a second time change nothing.
import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, it } from "vitest";
import { eventually, TestDaemon } from "../daemon/daemon.js";
import { projectRoot } from "../guest/paths.js";
import { type Images, linuxImages } from "./linux.js";

const run = promisify(execFile);
const example = (name: string): string => join(projectRoot, "examples", name);
const NAMES = ["db-1", "web-1", "web-2"];

let daemon: TestDaemon;
let images: Images;
beforeAll(async () => {
  daemon = await TestDaemon.start();
  images = await linuxImages(daemon.folder);
});
afterAll(() => daemon.end());

async function generations(): Promise<number[]> {
  const { vms } = await daemon.client.call("listVms", {});
  expect(vms.map(({ name }) => name)).toEqual(NAMES);
  await eventually(async () => {
    const list = await daemon.client.call("listVms", { state: "running" });
    return list.vms.length === NAMES.length;
  }, 120);
  return vms.map(({ generation }) => generation);
}

async function deleteAll(): Promise<void> {
  for (const vm of NAMES) {
    await daemon.client.call("killVm", { vm });
    await daemon.client.call("deleteVm", { vm });
  }
}

it("three VMs by a shell script", async () => {
  const { kernel, initrd } = images;
  const env = { ...process.env, SOCKET: daemon.socket, KERNEL: kernel, INITRD: initrd };
  const first = await run(example("three-vms.sh"), { env });
  expect(first.stdout).toBe("web-1: created\nweb-2: created\ndb-1: created\n");
  const before = await generations();
  const second = await run(example("three-vms.sh"), { env });
  expect(second.stdout.match(/as it should be/g)).toHaveLength(3);
  expect(await generations()).toEqual(before);
  await deleteAll();
});

it("three VMs by Ansible", async () => {
  const vars = { socket: daemon.socket, kernel: images.kernel, initrd: images.initrd };
  const args = [example("ansible-three-vms.yml"), "-i", "localhost,", "-e", JSON.stringify(vars)];
  const env = { ...process.env, ANSIBLE_NOCOLOR: "1", ANSIBLE_LOCAL_TEMP: daemon.folder };
  const first = await run("ansible-playbook", args, { env });
  expect(first.stdout).toMatch(/localhost +: ok=3 +changed=1 .*failed=0/);
  const before = await generations();
  const second = await run("ansible-playbook", args, { env });
  expect(second.stdout).toMatch(/localhost +: ok=3 +changed=0 .*failed=0/);
  expect(await generations()).toEqual(before);
  await deleteAll();
});
