// Disk images as objects of the daemon, used by definitions by name.
import { createHash } from "node:crypto";
import {
  closeSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  truncateSync,
} from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { host } from "../native/host.js";
import { problemOf, TestDaemon } from "../test/daemon/daemon.js";
import { writeCopy } from "./operations/copy-file.js";

let daemon: TestDaemon;
beforeAll(async () => {
  daemon = await TestDaemon.start();
});
afterAll(() => daemon.end());

const folder = (): string => join(daemon.folder, "state", "images");
const disk = (image: string) => [
  { slot: "31:0", type: "lpc" },
  { slot: "3:0", type: "virtio-blk", image },
];

it("makes empty images that take no room, and grows them", async () => {
  for (const format of ["raw", "qcow2"] as const) {
    const body = { name: format, format, size: 2 ** 30 };
    const made = await daemon.client.call("createImage", { body });
    expect(made).toMatchObject({ name: format, format, size: 2 ** 30, usedBy: [] });
    expect(made.allocated).toBeLessThan(2 ** 20);
    const size = 2 ** 31;
    const grown = await daemon.client.call("growImage", { image: format, body: { size } });
    expect(grown.size).toBe(size);
    const smaller = await daemon.refusal("POST", `/images/${format}/grow`, { size: 512 });
    expect(smaller).toMatchObject({ status: 422, code: "STORED_IMAGE_UNFIT" });
    expect(smaller.detail).toContain("cannot be made smaller");
  }
});

it("imports a file, whole and of the digest that was named, or not at all", async () => {
  const content = Buffer.alloc(5 * 2 ** 20, "disk");
  const file = daemon.file("import.img", content);
  const sha256 = createHash("sha256").update(content).digest("hex");
  const good = { name: "good", format: "raw", file, sha256 } as const;
  const done = await daemon.client.call("importImage", { timeout: 150, body: good });
  expect(done).toMatchObject({ state: "succeeded", result: { image: "good" } });
  expect(done.progress.done).toBe(2 * content.length);
  expect(readFileSync(join(folder(), "good.raw")).equals(content)).toBe(true);
  const bad = { ...good, name: "bad", sha256: "0".repeat(64) };
  const failed = await daemon.client.call("importImage", { timeout: 150, body: bad });
  expect(failed).toMatchObject({ state: "failed", error: { code: "STORED_IMAGE_DIGEST" } });
  const text = { ...good, name: "text", format: "qcow2" as const };
  const unfit = await daemon.client.call("importImage", { timeout: 150, body: text });
  expect(unfit.error?.code).toBe("STORED_IMAGE_UNFIT");
  expect(readdirSync(folder()).filter((name) => /bad|text|^\./.test(name))).toEqual([]);
});

it("gives an import up, and leaves nothing of it", async () => {
  const file = daemon.file("endless.img", "");
  truncateSync(file, 2 ** 40); // all holes: it takes no room, and minutes to go over
  const body = { name: "endless", format: "raw", file, sha256: "0".repeat(64) } as const;
  const { id, state } = await daemon.client.call("importImage", { body });
  expect(state).toBe("running");
  await daemon.client.call("cancelOperation", { operation: id });
  const ended = await daemon.client.call("getOperation", { operation: id, timeout: 150 });
  expect(ended.state).toBe("cancelled");
  expect(readdirSync(folder()).filter((name) => name.includes("endless"))).toEqual([]);
  const none = problemOf(await daemon.raw("GET", "/v1/images/endless"));
  expect(none.code).toBe("STORED_IMAGE_NOT_FOUND");
});

it("goes on with an import after a sudden end", async () => {
  const file = daemon.file("large.img", Buffer.alloc(64 * 2 ** 20, "x"));
  const body = { name: "large", format: "raw", file } as const;
  const begun = await daemon.client.call("importImage", { body });
  await daemon.kill("SIGKILL");
  await daemon.launch();
  const ended = await daemon.client.call("getOperation", { operation: begun.id, timeout: 150 });
  expect(ended.state).toBe("succeeded");
  expect(readFileSync(join(folder(), "large.raw")).equals(readFileSync(file))).toBe(true);
  expect(readdirSync(folder()).filter((name) => name.startsWith("."))).toEqual([]);
});

it("is a VM's disk by its name, and is not deleted under it", async () => {
  const vm = await daemon.create("uses", "hello", { devices: disk("raw") });
  const path = join(folder(), "raw.raw");
  expect(vm.definition.devices).toContainEqual(
    expect.objectContaining({ image: "raw", path, format: "raw" }),
  );
  const again = await daemon.client.call("replaceVm", {
    vm: "uses",
    body: { ...vm.definition, devices: disk("raw") } as never,
  });
  expect(again.generation).toBe(vm.generation);
  expect((await daemon.start("uses")).status.state).toBe("running");
  expect((await daemon.client.call("getImage", { image: "raw" })).usedBy).toEqual(["uses"]);
  const held = problemOf(await daemon.raw("DELETE", "/v1/images/raw"));
  expect(held).toMatchObject({ status: 409, code: "STORED_IMAGE_IN_USE" });
  const on = await daemon.refusal("POST", "/images/raw/clone", { name: "copy" });
  expect(on.code).toBe("STORED_IMAGE_IN_USE");
  await daemon.client.call("killVm", { vm: "uses" });
  const copied = await daemon.client.call("cloneImage", {
    image: "raw",
    timeout: 150,
    body: { name: "copy" },
  });
  expect(copied.state).toBe("succeeded");
  await aCloneHasItsOwnDisk(path);
  await daemon.client.call("deleteVm", { vm: "uses" });
  await daemon.client.call("deleteImage", { image: "raw" });
  expect(existsSync(path)).toBe(false);
  const missing = await daemon.refusal("POST", "/vms", {
    name: "none",
    boot: { kind: "multiboot", kernel: daemon.guestFile("hello") },
    devices: disk("raw"),
  });
  expect(missing).toMatchObject({ status: 404, code: "STORED_IMAGE_NOT_FOUND" });
});

it("is not written to while it is copied, nor copied while it is written to", async () => {
  const size = 1 << 20;
  await daemon.client.call("createImage", { body: { name: "shared", format: "raw", size } });
  await daemon.create("writer", "hello", { devices: disk("shared") });
  const path = join(folder(), "shared.raw");
  const held = openSync(path, "r");
  const clone = (name: string) =>
    daemon.client.call("cloneImage", { image: "shared", timeout: 150, body: { name } });
  try {
    // As a copy has it.
    expect(host().lockFile(held, true)).toBe(true);
    const start = await daemon.refusal("POST", "/vms/writer/start", {});
    expect(start).toMatchObject({ status: 409, code: "IMAGE_LOCKED" });
    expect(start.detail).toContain(path);
    const grow = await daemon.refusal("POST", "/images/shared/grow", { size: 2 * size });
    expect(grow.code).toBe("STORED_IMAGE_IN_USE");
    expect((await clone("beside")).state).toBe("succeeded");
    // As a VM process has it that the daemon knows nothing of yet.
    expect(host().lockFile(held)).toBe(true);
    const refused = await clone("torn");
    expect(refused).toMatchObject({ state: "failed", error: { code: "IMAGE_LOCKED" } });
    expect(readdirSync(folder()).filter((name) => name.includes("torn"))).toEqual([]);
  } finally {
    closeSync(held);
  }
  expect((await daemon.start("writer")).status.state).toBe("running");
  await daemon.client.call("killVm", { vm: "writer" });
  await daemon.client.call("deleteVm", { vm: "writer" });
  for (const image of ["shared", "beside"]) await daemon.client.call("deleteImage", { image });
});

it("is locked while a copy is made, and no longer", async () => {
  const from = daemon.file("original.img", Buffer.alloc(9 * 2 ** 20, "y"));
  const other = openSync(from, "r+");
  const free: boolean[] = [];
  const { signal } = new AbortController();
  try {
    const progress = () => void free.push(host().lockFile(other));
    await writeCopy(from, join(daemon.folder, "copy.img"), { signal, progress });
    expect(free).not.toContain(true);
    expect(host().lockFile(other)).toBe(true);
    const to = join(daemon.folder, "no-copy.img");
    const copying = writeCopy(from, to, { signal, progress });
    await expect(copying).rejects.toMatchObject({ code: "IMAGE_LOCKED" });
    expect(existsSync(to)).toBe(false);
  } finally {
    closeSync(other);
  }
});

it("lies on a port of an AHCI controller by its name, and its clone on a file", async () => {
  const size = 1 << 20;
  await daemon.client.call("createImage", { body: { name: "ported", format: "qcow2", size } });
  const plain = daemon.file("plain.img", Buffer.alloc(4096, 9));
  const ports = [
    { type: "hd", path: plain },
    { type: "hd", image: "ported" },
    { type: "cd", image: "good" },
    { type: "cd" },
  ];
  const vm = await daemon.create("ports", "hello", {
    devices: [{ slot: "4:0", type: "ahci", ports }],
  });
  const path = join(folder(), "ported.qcow2");
  expect(vm.definition.devices[0]).toMatchObject({
    ports: [{}, { image: "ported", path, format: "qcow2" }, { image: "good" }, { type: "cd" }],
  });
  for (const image of ["ported", "good"]) {
    expect((await daemon.client.call("getImage", { image })).usedBy).toEqual(["ports"]);
    const held = problemOf(await daemon.raw("DELETE", `/v1/images/${image}`));
    expect(held.code).toBe("STORED_IMAGE_IN_USE");
  }
  const clone = (disks: object) =>
    daemon.refusal("POST", "/vms/ports/clone", { name: "copies", disks });
  const [zero, one] = ["zero.img", "one.img"].map((name) => join(daemon.folder, name));
  expect(await clone({ "4:0": zero })).toMatchObject({
    code: "CLONE_DISK_MISSING",
    detail: expect.stringContaining("4:0-1"),
  });
  expect((await clone({ "4:0": zero, "4:0-1": one, "4:0-3": "/x" })).code).toBe(
    "CLONE_DISK_UNKNOWN",
  );
  const done = await daemon.client.call("cloneVm", {
    vm: "ports",
    timeout: 150,
    body: { name: "copies", disks: { "4": zero, "0:4:0-1": one } } as never,
  });
  expect(done).toMatchObject({ state: "succeeded" });
  const [copy] = (await daemon.client.call("getVm", { vm: "copies" })).definition.devices;
  expect(copy).toEqual({
    slot: "4:0",
    type: "ahci",
    ports: [
      { type: "hd", path: zero },
      { type: "hd", path: one, format: "qcow2" },
      expect.objectContaining({ type: "cd", image: "good" }),
      { type: "cd" },
    ],
  });
  expect(readFileSync(String(zero)).equals(readFileSync(plain))).toBe(true);
  expect(readFileSync(String(one)).equals(readFileSync(path))).toBe(true);
  for (const name of ["ports", "copies"]) await daemon.client.call("deleteVm", { vm: name });
  await daemon.client.call("deleteImage", { image: "ported" });
});

/** Of "uses", whose disk is a stored image: the copy is a file, and the image is not named again. */
async function aCloneHasItsOwnDisk(original: string): Promise<void> {
  const slot = "3:0";
  const own = join(daemon.folder, "own.img");
  const done = await daemon.client.call("cloneVm", {
    vm: "uses",
    timeout: 150,
    body: { name: "twin", disks: { [slot]: own } },
  });
  expect(done.state).toBe("succeeded");
  const { definition } = await daemon.client.call("getVm", { vm: "twin" });
  const [copy] = definition.devices.filter((device) => device.slot === slot);
  expect(copy).toMatchObject({ path: own });
  expect(copy).not.toHaveProperty("image");
  expect(statSync(own).size).toBe(statSync(original).size);
  expect((await daemon.client.call("getImage", { image: "raw" })).usedBy).toEqual(["uses"]);
  await daemon.client.call("deleteVm", { vm: "twin" });
}

it("comes in pages", async () => {
  const first = await daemon.client.call("listImages", { limit: 2 });
  expect(first.images.map(({ name }) => name)).toEqual(["copy", "good"]);
  const rest = await daemon.client.call("listImages", { cursor: first.next ?? "" });
  expect(rest.images.map(({ name }) => name)).toEqual(["large", "qcow2"]);
  expect(rest.next).toBeUndefined();
});
