import { spawn } from "node:child_process";
import {
  closeSync,
  constants,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createConnection, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { host } from "./host.js";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "xhyved-host-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Node keeps a socket's descriptor to itself, except here. */
const descriptorOf = (socket: Socket): number =>
  (socket as unknown as { _handle: { fd: number } })._handle.fd;

async function socketPair(): Promise<{ here: Socket; there: Socket; close(): void }> {
  const path = join(folder, `pair-${Math.random()}.sock`);
  const server = createServer();
  await new Promise<void>((done) => server.listen(path, done));
  const accepted = new Promise<Socket>((done) => server.once("connection", done));
  const here = createConnection(path);
  const there = await accepted;
  there.pause();
  here.pause();
  return {
    here,
    there,
    close() {
      here.destroy();
      there.destroy();
      server.close();
    },
  };
}

const code = (run: () => unknown): string | undefined => {
  try {
    run();
  } catch (error) {
    return (error as NodeJS.ErrnoException).code;
  }
  return undefined;
};

test("a lock is held by one open file and goes with it", () => {
  const path = join(folder, "lock");
  const first = openSync(path, "w");
  const second = openSync(path, "w");
  expect(host().lockFile(first)).toBe(true);
  expect(host().lockFile(second)).toBe(false);
  closeSync(first);
  expect(host().lockFile(second)).toBe(true);
  host().unlockFile(second);
  closeSync(second);
  expect(code(() => host().lockFile(second))).toBe("EBADF");
});

test("arguments that are none throw TypeErrors", () => {
  expect(() => host().lockFile(-1)).toThrow(TypeError);
  expect(() => host().lockFile(1.5)).toThrow(TypeError);
  expect(() => host().processStart("1" as unknown as number)).toThrow(TypeError);
  expect(() => host().signalProcess(0, "1", 0)).toThrow(TypeError);
  expect(() => host().sendDescriptors(0, "x" as unknown as Uint8Array, [])).toThrow(TypeError);
});

test("the peer of a Unix socket is known", async () => {
  const pair = await socketPair();
  const peer = host().peerCredentials(descriptorOf(pair.here));
  expect(peer.uid).toBe(process.getuid?.());
  expect([process.pid, -1]).toContain(peer.pid);
  pair.close();
});

test("a process is named by pid and start, and signalled by both", async () => {
  const child = spawn(process.execPath, ["-e", "setInterval(() => {}, 1000)"]);
  const pid = child.pid ?? 0;
  const started = host().processStart(pid);
  expect(started).toMatch(/^[0-9.]+$/);
  expect(host().processStart(pid)).toBe(started);
  const exited = new Promise<string | null>((done) =>
    child.once("exit", (_, signal) => done(signal)),
  );
  expect(host().signalProcess(pid, "1", 15)).toBe(false);
  expect(host().signalProcess(pid, started ?? "", 0)).toBe(true);
  expect(host().signalProcess(pid, started ?? "", 15)).toBe(true);
  expect(await exited).toBe("SIGTERM");
  expect(host().processStart(pid)).toBeUndefined();
  expect(host().signalProcess(pid, started ?? "", 0)).toBe(false);
});

test("opening beneath a folder does not leave it", () => {
  mkdirSync(join(folder, "in", "deep"), { recursive: true });
  writeFileSync(join(folder, "in", "deep", "file"), "inside");
  writeFileSync(join(folder, "secret"), "outside");
  symlinkSync("../secret", join(folder, "in", "relative"));
  symlinkSync(join(folder, "secret"), join(folder, "in", "absolute"));
  const root = openSync(join(folder, "in"), constants.O_RDONLY | constants.O_DIRECTORY);
  const open = (path: string) => host().openBeneath(root, path, constants.O_RDONLY, 0);
  const fd = open("deep/file");
  expect(readFileSync(fd, "utf8")).toBe("inside");
  closeSync(fd);
  for (const path of ["../secret", "deep/../../secret", "relative", "absolute", "/etc/passwd"])
    expect(["EXDEV", "ELOOP", "EINVAL"], path).toContain(code(() => open(path)));
  expect(code(() => open("missing"))).toBe("ENOENT");
  const made = host().openBeneath(root, "new", constants.O_CREAT | constants.O_WRONLY, 0o600);
  closeSync(made);
  expect(existsSync(join(folder, "in", "new"))).toBe(true);
  closeSync(root);
});

test("descriptors travel over a Unix socket", async () => {
  const pair = await socketPair();
  const path = join(folder, "passed");
  writeFileSync(path, "passed on");
  const file = openSync(path, "r");
  const sent = host().sendDescriptors(descriptorOf(pair.here), Buffer.from("here"), [file]);
  expect(sent).toBe(4);
  const got = host().receiveDescriptors(descriptorOf(pair.there), 64);
  expect(got?.bytes.toString()).toBe("here");
  expect(got?.fds).toHaveLength(1);
  const fd = got?.fds[0] ?? -1;
  expect(readFileSync(fd, "utf8")).toBe("passed on");
  closeSync(fd);
  closeSync(file);
  expect(host().receiveDescriptors(descriptorOf(pair.there), 64)).toBeUndefined();
  pair.close();
});

test("the service manager is told only where it asked", () => {
  const before = process.env.NOTIFY_SOCKET;
  delete process.env.NOTIFY_SOCKET;
  expect(host().sdNotify("READY=1")).toBe(false);
  process.env.NOTIFY_SOCKET = "/".repeat(200);
  expect(code(() => host().sdNotify("READY=1"))).toBe("ENAMETOOLONG");
  if (before === undefined) delete process.env.NOTIFY_SOCKET;
  else process.env.NOTIFY_SOCKET = before;
});

test("launchd's sockets are undefined elsewhere", () => {
  if (process.platform === "darwin") return;
  expect(host().launchActivateSocket("Listeners")).toBeUndefined();
});

// In a process of its own, since there is no way back.
const CONFINED = `
  import { spawnSync } from "node:child_process";
  import { connect, createServer } from "node:net";
  import { readFileSync, writeFileSync } from "node:fs";
  import { Worker } from "node:worker_threads";
  import { host } from ${JSON.stringify(new URL("../dist/native/host.js", import.meta.url).href)};
  const folder = process.argv[1];
  host().confine("");
  const seen = {};
  seen.program = spawnSync("/bin/true").error?.code;
  writeFileSync(folder + "/written", "still");
  seen.file = readFileSync(folder + "/written", "utf8");
  seen.thread = await new Promise((done) =>
    new Worker(new URL("data:text/javascript,import { parentPort } from 'node:worker_threads'; parentPort.postMessage('runs')")).once("message", done));
  seen.tcp = await new Promise((done) =>
    connect(9, "127.0.0.1").once("error", (error) => done(error.code)));
  seen.unix = await new Promise((done) => {
    const server = createServer((socket) => socket.end("hello")).listen(folder + "/unix", () =>
      connect(folder + "/unix").once("data", (data) => { server.close(); done(String(data)); }));
  });
  const status = readFileSync("/proc/self/status", "utf8");
  seen.kernel = [/^NoNewPrivs:\\s*(.*)/m, /^Seccomp:\\s*(.*)/m].map((line) => line.exec(status)?.[1]);
  console.log(JSON.stringify(seen));
`;

test.runIf(process.platform === "linux")(
  "a confined process keeps its files, threads and Unix sockets, and no more",
  async () => {
    const child = spawn(process.execPath, ["--input-type=module", "-e", CONFINED, folder], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    let said = "";
    child.stdout.on("data", (data) => {
      said += String(data);
    });
    await new Promise((done) => child.once("close", done));
    expect(JSON.parse(said)).toEqual({
      program: "EPERM",
      file: "still",
      thread: "runs",
      tcp: "EAFNOSUPPORT",
      unix: "hello",
      kernel: ["1", "2"],
    });
  },
);
