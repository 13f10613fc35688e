// Real guests on networks: a tap with DHCP, links and captures; two cards; the switch between VMs;
// passt as an ordinary user; a guest that moves amid its traffic; host sockets.
import { execFileSync, spawnSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import { parse, VmDefinition } from "../../api-schema/index.js";
import { debianBusybox } from "../guest/debian.js";
import { SHELL_PROMPT } from "../guest/initrd.js";
import { Namespace, networkGuest, serveDhcp } from "../guest/network.js";
import { VmProcess } from "../guest/vm-process.js";

const LIMIT_S = 300;
const MIB = 2 ** 20;
const NOBODY = 65534;

let folder = "";
let boot: { kernel: string; initrd: string };
let place: Namespace;
const vms: VmProcess[] = [];

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "xhyved-network-"));
  chmodSync(folder, 0o755);
  boot = await networkGuest(folder);
  place = new Namespace("xhyved-net");
  place.run("ip tuntap add tapa mode tap vnet_hdr; ip addr add 10.7.0.1/24 dev tapa");
  place.run("ip link set tapa up; ip route add default via 10.7.0.9 dev tapa");
  await serveDhcp(place, folder, "10.7.0", "tapa");
});
afterAll(() => {
  place.remove();
  rmSync(folder, { recursive: true, force: true });
});
afterEach(async () => {
  for (const vm of vms.splice(0)) await vm.end();
});

const TAP = { slot: "2:0", type: "virtio-net", backend: { kind: "tap", interface: "tapa" } };
const onSwitch = (slot: string) => ({
  slot,
  type: "virtio-net",
  backend: { kind: "switch", network: "lab" },
});

function define(name: string, devices: readonly object[]): VmDefinition {
  const hash = createHash("md5").update(name).digest("hex");
  return parse(VmDefinition, {
    name,
    uuid: hash.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5"),
    memory: 192 * MIB,
    boot: { kind: "linux", ...boot, cmdline: "console=ttyS0 quiet" },
    devices: [{ slot: "0:0", type: "hostbridge" }, ...devices, { slot: "31:0", type: "lpc" }],
  });
}

async function start(
  definition: VmDefinition,
  more: Partial<Parameters<typeof VmProcess.launch>[0]> = {},
): Promise<VmProcess> {
  const own = mkdtempSync(join(folder, `${definition.name}-`));
  const vm = await VmProcess.launch({
    folder: join(own, "vm"),
    definition,
    console: join(own, "console.log"),
    within: place.inside,
    environment: { XHYVED_NETWORKS: join(folder, "networks") },
    ...more,
  });
  vms.push(vm);
  await vm.connection.call("start", {});
  if (more.restore === undefined) await vm.waitFor(SHELL_PROMPT, LIMIT_S);
  return vm;
}

let asked = 0;
/** What the guest's shell answers to one line. */
async function ask(vm: VmProcess, line: string): Promise<string> {
  const end = `done-${++asked}`;
  await vm.type(`${line}; echo do''ne-${asked}\n`);
  await vm.waitFor(`${end}\r\n`, LIMIT_S);
  const all = vm.output();
  const to = all.indexOf(`${end}\r\n`);
  return all
    .slice(all.lastIndexOf(`ne-${asked}\r\n`, to - end.length) + 1, to)
    .replaceAll("\r", "");
}

/** The guest hears of it by an interrupt, in its own time. */
const untilCarrier = (state: 0 | 1): string =>
  `until grep -q ${state} /sys/class/net/eth0/carrier; do sleep 0.1; done`;

const lease = (vm: VmProcess, card = "eth0") =>
  ask(vm, `busybox ip link set ${card} up; busybox udhcpc -i ${card} -n -q -t 20 -s /lease.sh`);
const addressIn = (text: string): string | undefined => /leased-\w+=([\d.]+)/.exec(text)?.[1];
const md5 = (bytes: Uint8Array): string => createHash("md5").update(bytes).digest("hex");

it("a tap: DHCP, data both ways, the same address after a reset, links and captures", async () => {
  const data = randomBytes(24 * MIB);
  writeFileSync(join(folder, "data"), data);
  place.start(await debianBusybox(), "httpd", "-f", "-p", "10.7.0.1:80", "-h", folder);
  const vm = await start(define("one", [TAP]));
  const first = addressIn(await lease(vm));
  expect(first).toMatch(/^10\.7\.0\./);
  const mac = /\w\w(:\w\w){5}/.exec(await ask(vm, "cat /sys/class/net/eth0/address"))?.[0];
  expect(Number.parseInt(mac?.slice(0, 2) ?? "1", 16) & 3).toBe(2);
  expect(await ask(vm, "busybox wget -q -O - http://10.7.0.1/data | md5sum")).toContain(md5(data));

  const file = join(folder, "capture.pcapng");
  await vm.connection.call("startCapture", { slot: "2:0", file });
  await expect(vm.connection.call("startCapture", { slot: "2:0", file })).rejects.toMatchObject({
    code: "CAPTURE_FAILED",
  });
  expect(await ask(vm, "busybox ping -c 3 -i 0.1 10.7.0.1")).toContain(" 0% packet loss");
  const ended = await vm.connection.call("stopCapture", { slot: "2:0" });
  expect(ended.counters.capturedFrames).toBeGreaterThanOrEqual(6);
  const seen = spawnSync("tshark", ["-r", file, "-Y", "icmp"], { encoding: "utf8" });
  expect(seen.stdout.match(/Echo \(ping\) (request|reply)/g)?.length, seen.stderr).toBe(6);

  await vm.connection.call("setLink", { slot: "2", up: false });
  await ask(vm, untilCarrier(0));
  await vm.connection.call("setLink", { slot: "2:0", up: true });
  await ask(vm, untilCarrier(1));
  expect(await ask(vm, "busybox ping -c 2 -i 0.2 10.7.0.1")).toContain(" 0% packet loss");

  const prompts = vm.output().split(SHELL_PROMPT).length;
  await vm.connection.call("reset", {});
  await expect
    .poll(() => vm.output().split(SHELL_PROMPT).length, { timeout: LIMIT_S * 1000 })
    .toBeGreaterThan(prompts);
  expect(addressIn(await lease(vm))).toBe(first);
  expect(await ask(vm, "cat /sys/class/net/eth0/address")).toContain(mac);
});

it("two cards at once, and the switch between VMs, whoever dies", async () => {
  const a = await start(define("left", [TAP, onSwitch("3:0")]));
  const b = await start(define("right", [onSwitch("3:0")]));
  await ask(a, "busybox ip link set eth1 up; busybox ip addr add 10.8.0.1/24 dev eth1");
  const up = "busybox ip link set eth0 up; busybox ip addr add 10.8.0.2/24 dev eth0";
  await ask(b, up);
  expect(addressIn(await lease(a))).toMatch(/^10\.7\.0\./);
  expect(await ask(a, "busybox ping -c 3 -i 0.1 10.8.0.2")).toContain(" 0% packet loss");
  expect(await ask(a, "busybox ping -c 3 -i 0.1 10.7.0.1")).toContain(" 0% packet loss");
  await b.type("busybox nc -l -p 5000 | md5sum\n");
  const sum = /[0-9a-f]{32}/.exec(
    await ask(a, "busybox dd if=/dev/urandom of=/tmp/x bs=64k count=256; md5sum /tmp/x"),
  )?.[0];
  await ask(a, "until busybox nc 10.8.0.2 5000 < /tmp/x; do sleep 0.2; done"); // it may not listen yet
  await b.waitFor(`${sum}  -`, LIMIT_S);

  process.kill(b.pid, "SIGKILL");
  expect(await ask(a, "busybox ping -c 2 -i 0.1 10.7.0.1")).toContain(" 0% packet loss");
  const again = await start(define("right", [onSwitch("3:0")]));
  await ask(again, up);
  expect(await ask(again, "busybox ping -c 3 -i 0.1 10.8.0.1")).toContain(" 0% packet loss");
});

it("networks that cannot be used are refused before the start", async () => {
  await start(define("holder", [TAP, onSwitch("3:0")]));
  const refused = (devices: readonly object[]) => start(define("second", devices));
  await expect(refused([TAP])).rejects.toThrow(/tapa is in use by another program/);
  const mac = { mac: "02:11:22:33:44:55" };
  const twice = [
    { ...onSwitch("3:0"), ...mac },
    { ...onSwitch("4:0"), ...mac },
  ];
  await expect(refused(twice)).rejects.toThrow(
    /02:11:22:33:44:55 of devices\[2\] is taken by the card in slot 3:0/,
  );
  const other = define("holder", [onSwitch("3:0")]);
  await expect(start(other)).rejects.toThrow(/is taken by a VM on the network lab/);
  const bridge = { kind: "tap", interface: "tapb", bridge: "nobridge" };
  await expect(refused([{ ...TAP, backend: bridge }])).rejects.toThrow(
    /the bridge: no such device/,
  );
  expect(place.run("ip -br link")).not.toContain("tapb");
  const stream = { kind: "stream", socket: join(folder, "nobody") };
  await expect(refused([{ ...TAP, backend: stream }])).rejects.toThrow(/ENOENT/);
});

it("passt as an ordinary user: the host reaches the guest, and passt goes with the VM", async () => {
  const own = mkdtempSync(join(folder, "user-"));
  chownSync(own, NOBODY, NOBODY);
  mkdirSync(join(own, "vm"), { mode: 0o700 });
  chownSync(join(own, "vm"), NOBODY, NOBODY);
  const forwards = [{ protocol: "tcp", host: 2222, guest: 22 }];
  const card = { slot: "2:0", type: "virtio-net", backend: { kind: "user", forwards } };
  const as = ["setpriv", `--reuid=${NOBODY}`, `--regid=${NOBODY}`, "--clear-groups"];
  const vm = await start(define("user", [card]), {
    folder: join(own, "vm"),
    console: join(own, "console.log"),
    within: [...place.inside, ...as],
  });
  expect(addressIn(await lease(vm))).toMatch(/^10\.7\.0\./);
  await vm.type("while echo hello from the guest | busybox nc -l -p 22; do :; done\n");
  const words = () =>
    spawnSync("ip", [...place.inside.slice(1), busybox, "nc", "-w", "100", "127.0.0.1", "2222"], {
      encoding: "utf8",
      input: "",
      timeout: 120_000,
    }).stdout;
  const busybox = await debianBusybox();
  await expect.poll(words, { timeout: LIMIT_S * 1000 }).toContain("hello from the guest");
  const count = () =>
    execFileSync("ip", ["netns", "pids", place.name], { encoding: "utf8" })
      .split("\n")
      .filter((pid) => pid !== "" && isPasst(pid)).length;
  expect(count()).toBeGreaterThan(0);
  process.kill(vm.pid, "SIGKILL");
  await expect.poll(count, { timeout: 120_000 }).toBe(0);
});

const isPasst = (pid: string): boolean => {
  const comm = spawnSync("cat", [`/proc/${pid}/comm`], { encoding: "utf8" }).stdout;
  return comm.startsWith("passt");
};

it("a guest goes from process to process amid its traffic", async () => {
  const data = randomBytes(48 * MIB);
  writeFileSync(join(folder, "data"), data);
  place.start(await debianBusybox(), "httpd", "-f", "-p", "10.7.0.1:8080", "-h", folder);
  const definition = define("mover", [TAP]);
  const console = join(folder, "mover.log");
  let vm = await start(definition, { console });
  expect(addressIn(await lease(vm))).toMatch(/^10\.7\.0\./);
  await vm.type("busybox wget -q -O - http://10.7.0.1:8080/data | md5sum; echo moved-$((40+2))\n");
  for (let move = 1; move <= 3; move++) {
    await new Promise((resolve) => setTimeout(resolve, 300));
    await vm.connection.call("pause", {});
    const saved = join(folder, `saved-${move}`);
    await vm.connection.call("saveState", { directory: saved });
    await vm.end();
    vm = await start(definition, { console, restore: saved });
    rmSync(saved, { recursive: true });
  }
  await vm.waitFor("moved-42", LIMIT_S);
  expect(vm.output()).toContain(md5(data));
});

it("host sockets: both ways, whole, and gone for the guest that moves", async () => {
  const socket = join(folder, "v.sock");
  const definition = define("socketed", [{ slot: "5:0", type: "virtio-sock", cid: 42, socket }]);
  const vm = await start(definition);
  const data = randomBytes(4 * MIB);

  const heard: Buffer[] = [];
  const server = createServer((guest) => guest.on("data", (part) => void heard.push(part)));
  await new Promise<void>((done) => server.listen(`${socket}_700`, done));
  await ask(
    vm,
    "busybox dd if=/dev/urandom of=/tmp/x bs=64k count=64; md5sum /tmp/x; vsock connect 700 < /tmp/x & wait",
  );
  await expect
    .poll(() => Buffer.concat(heard).length, { timeout: LIMIT_S * 1000 })
    .toBe(64 * 65536);
  expect(vm.output()).toContain(md5(Buffer.concat(heard)));
  server.close();

  await vm.type("vsock listen 800 < /dev/null | md5sum\n");
  await vm.waitFor("vsock: listening", LIMIT_S);
  const client = connect(socket);
  client.write("CONNECT 800\n");
  expect(await firstLine(client)).toMatch(/^OK \d+\n/);
  client.end(data);
  await vm.waitFor(`${md5(data)}  -`, LIMIT_S);

  const refused = connect(socket);
  refused.on("error", () => {});
  refused.write("CONNECT 801\n");
  await new Promise((gone) => refused.on("close", gone));
  expect(await ask(vm, "vsock connect 999 < /dev/null")).toMatch(/reset|refused/i);

  await vm.type("vsock listen 802 < /dev/null; echo over-$((40+2))\n");
  await expect
    .poll(() => vm.output().split("vsock: listening").length, { timeout: LIMIT_S * 1000 })
    .toBe(3);
  const open = connect(socket);
  open.on("error", () => {});
  open.write("CONNECT 802\n");
  await firstLine(open);
  await vm.connection.call("pause", {});
  const saved = join(folder, "saved-socket");
  await vm.connection.call("saveState", { directory: saved });
  await vm.end();
  expect(existsSync(socket)).toBe(false);
  const next = await start(definition, { restore: saved });
  await next.waitFor("over-42", LIMIT_S);
});

const firstLine = (socket: Socket): Promise<string> =>
  new Promise((resolve, reject) => {
    socket.once("data", (data) => resolve(String(data)));
    socket.once("close", () => reject(new Error("closed before it said anything")));
  });
