import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as plist from "plist";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Client } from "../daemon/cli/client.js";
import { TestDaemon } from "../test/daemon/daemon.js";
import { projectRoot } from "../test/guest/paths.js";
import type { Finding } from "./checks.js";

let work: string;
beforeEach(() => {
  work = mkdtempSync(join(tmpdir(), "xhyved-launchd-"));
});
afterEach(() => rmSync(work, { recursive: true, force: true }));

const xhyved = (...args: string[]) =>
  spawnSync(process.execPath, [join(projectRoot, "bin", "xhyved"), ...args], { encoding: "utf8" });
const installed = (path: string): string => readFileSync(join(work, path), "utf8");

describe("install for systemd", () => {
  const units = ["xhyved.socket", "xhyved.service", "xhyved-guests.service"].map(
    (name) => `etc/systemd/system/${name}`,
  );
  const user = "etc/sysusers.d/xhyved.conf";
  const there = () => [user, ...units].map((path) => existsSync(join(work, path)));
  const install = (...more: string[]) =>
    xhyved("install", "--manager", "systemd", "--root", work, ...more);

  test("writes the units, again without a change, and takes them out", () => {
    expect(install().status).toBe(0);
    expect(there()).toEqual([true, true, true, true]);
    expect(install().stdout.match(/^unchanged /gm)).toHaveLength(4);
    expect(xhyved("uninstall", "--manager", "systemd", "--root", work).status).toBe(0);
    expect(there()).toEqual([false, false, false, false]);
  });

  test("VMs outlive the daemon, and guests are shut down before it ends", () => {
    install("--runtime-dir", "/run/xhyved", "--guest-timeout", "90");
    const service = installed("etc/systemd/system/xhyved.service");
    expect(service).toMatch(/^Type=notify$/m);
    expect(service).toMatch(/^KillMode=process$/m);
    expect(service).toMatch(/^RuntimeDirectoryPreserve=yes$/m);
    const guests = installed("etc/systemd/system/xhyved-guests.service");
    expect(guests).toMatch(/^After=xhyved\.service$/m);
    expect(guests).toMatch(/^ExecStop=.* shutdown --all --timeout 90$/m);
    expect(guests).toMatch(/^TimeoutStopSec=105$/m);
    expect(installed("etc/systemd/system/xhyved.socket")).toMatch(
      /^ListenStream=\/run\/xhyved\/xhyved\.sock$/m,
    );
  });

  test("VMs get a user of their own, where root installs", () => {
    install();
    expect(installed(user)).toMatch(/^u xhyved-vm - /m);
    const { stdout } = xhyved("install", "--manager", "systemd", "--print");
    expect(stdout).toContain(`# then: systemd-sysusers /${user}\n`);
    const forOne = xhyved("install", "--manager", "systemd", "--user", "--print");
    expect(forOne.stdout).not.toContain("sysusers");
  });

  test("a path with spaces and signs that systemd reads stays one word", () => {
    install("--state-dir", '/srv/my vms/100%/"$x"');
    expect(installed("etc/systemd/system/xhyved.service")).toContain(
      '--state-dir "/srv/my vms/100%%/\\"$$x\\""',
    );
  });

  test.skipIf(spawnSync("systemd-analyze", ["--version"]).status !== 0)(
    "systemd-analyze verify finds nothing in the units",
    () => {
      install("--node", process.execPath);
      const verify = spawnSync(
        "systemd-analyze",
        ["verify", ...units.map((unit) => join(work, unit))],
        {
          encoding: "utf8",
        },
      );
      expect(verify.stderr.split("\n").filter((line) => /xhyved/.test(line))).toEqual([]);
    },
  );
});

describe("install for launchd", () => {
  const parsed = (name: string): Record<string, unknown> =>
    plist.parse(installed(`Library/LaunchDaemons/${name}.plist`)) as Record<string, unknown>;
  const install = (...more: string[]) =>
    xhyved("install", "--manager", "launchd", "--root", work, "--node", "/opt/a&b/node", ...more);

  test("the daemon's job: kept alive, with its socket, its VMs not killed with it", () => {
    expect(install("--runtime-dir", "/var/run/xhyved", "--state-dir", "/var/<x>").status).toBe(0);
    const job = parsed("org.xhyved.daemon");
    expect(job).toMatchObject({
      Label: "org.xhyved.daemon",
      KeepAlive: { SuccessfulExit: false },
      AbandonProcessGroup: true,
      ExitTimeOut: 30,
      Sockets: { Listener: { SockPathName: "/var/run/xhyved/xhyved.sock", SockPathMode: 0o600 } },
    });
    const args = job.ProgramArguments as string[];
    expect([args[0], args[3]]).toEqual(["/opt/a&b/node", "/var/<x>"]);
    expect(existsSync(join(work, "etc/newsyslog.d/xhyved.conf"))).toBe(true);
  });

  test("the guests' job waits to shut them down", () => {
    expect(install("--guest-timeout", "7", "--runtime-dir", "/var/run/x").status).toBe(0);
    const job = parsed("org.xhyved.guests");
    expect(job).toMatchObject({ ExitTimeOut: 22, KeepAlive: true });
    const [node, program = "", ...args] = job.ProgramArguments as string[];
    expect(node).toBe("/opt/a&b/node");
    expect(args).toEqual(["--socket", "/var/run/x/xhyved.sock", "guard", "--timeout", "7"]);
    // What that does when it is told to end: daemon/cli/long-work.test.ts.
    const help = spawnSync(process.execPath, [program, "guard", "--help"], { encoding: "utf8" });
    expect(help).toMatchObject({ status: 0, stdout: expect.stringContaining("--timeout SECONDS") });
  });

  test("a user's agents lie in the user's library", () => {
    const { stdout } = xhyved("install", "--user", "--manager", "launchd", "--print");
    expect(stdout).toMatch(/^# .*\/Library\/LaunchAgents\/org\.xhyved\.daemon\.plist$/m);
    expect(stdout).toMatch(/^# then: launchctl bootstrap gui\/\d+ /m);
  });
});

test("the macOS entitlements are a property list that asks for the hypervisor", () => {
  const text = readFileSync(join(projectRoot, "launchd", "entitlements.plist"), "utf8");
  expect(plist.parse(text)).toMatchObject({ "com.apple.security.hypervisor": true });
});

// systemd's side of socket activation (sd_listen_fds(3), sd_notify(3)): listens, waits until
// somebody connects, and only then becomes the daemon, with the socket as descriptor 3.
const ACTIVATOR = `
import os, select, socket, sys
path, program = sys.argv[1], sys.argv[2:]
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen(16)
print("listening", flush=True)
select.select([listener], [], [])
print("activated", flush=True)
os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(program[0], program)
`;

describe("socket activation", () => {
  let child: ChildProcess | undefined;
  afterEach(async () => {
    if (child === undefined || child.exitCode !== null) return;
    const ended = new Promise((resolve) => child?.once("exit", resolve));
    child.kill("SIGTERM");
    await ended;
  });

  test("the first request starts the daemon, gets its answer, and systemd hears READY=1", async () => {
    const socket = join(work, "api.sock");
    const notify = join(work, "notify");
    // Node has no datagram Unix sockets.
    const listener = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind(sys.argv[1])
print("bound", flush=True)
print(s.recv(4096).decode(), flush=True)`;
    const manager = spawn("python3", ["-c", listener, notify], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    let heard = "";
    manager.stdout.on("data", (data) => {
      heard += String(data);
    });
    await expect.poll(() => heard, { timeout: 120_000 }).toMatch(/bound/);

    const folders = ["--state-dir", join(work, "state"), "--runtime-dir", join(work, "run")];
    const program = [process.execPath, join(projectRoot, "bin", "xhyved"), ...folders];
    let said = "";
    child = spawn("python3", ["-c", ACTIVATOR, socket, ...program], {
      stdio: ["ignore", "pipe", "inherit"],
      env: { ...process.env, NOTIFY_SOCKET: notify },
    });
    child.stdout?.on("data", (data) => {
      said += String(data);
    });
    await expect.poll(() => said, { timeout: 120_000 }).toMatch(/listening/);
    expect(said).not.toMatch(/activated/);
    expect(await new Client({ socket }).call("listVms", {})).toMatchObject({ vms: [] });
    await expect.poll(() => said, { timeout: 120_000 }).toMatch(/activated/);
    await expect.poll(() => heard, { timeout: 120_000 }).toMatch(/READY=1/);
    // It made no socket of its own beside the one that it was given.
    expect(existsSync(join(work, "run", "xhyved.sock"))).toBe(false);
  });
});

describe("doctor", () => {
  const examined = (...args: string[]): { status: number | null; findings: Finding[] } => {
    const { status, stdout } = xhyved("doctor", "--json", ...args);
    return { status, findings: JSON.parse(stdout) };
  };
  const of = (findings: readonly Finding[], check: string) =>
    findings.find((finding) => finding.check === check);
  const folders = () => ["--state-dir", join(work, "state"), "--runtime-dir", join(work, "run")];

  test("a host where nothing is wrong: status 0, the accelerator with its reason", () => {
    const { status, findings } = examined(...folders());
    expect(findings.filter(({ verdict }) => verdict === "wrong")).toEqual([]);
    expect(status).toBe(0);
    expect(of(findings, "accelerator")?.found).toMatch(/^auto takes (soft|kvm|hvf): \S/);
    expect(of(findings, "daemon")).toMatchObject({ verdict: "warning" });
  });

  test("a daemon that runs, and its registry while it is in use", async () => {
    const daemon = await TestDaemon.start();
    try {
      const run = join(daemon.folder, "run");
      const { findings } = examined(
        "--state-dir",
        join(daemon.folder, "state"),
        "--runtime-dir",
        run,
      );
      expect(of(findings, "daemon")).toMatchObject({ verdict: "ok" });
      expect(of(findings, "registry")?.found).toMatch(/is whole$/);
    } finally {
      await daemon.end();
    }
  });

  test("what is wrong is told with what to do, and the status is 1", async () => {
    mkdirSync(join(work, "state"));
    chmodSync(join(work, "state"), 0o777);
    writeFileSync(
      join(work, "state", "registry.db"),
      "this is no database, whatever its name says",
    );
    const other = await listening();
    const { port } = other.address() as { port: number };
    const { status, findings } = examined(...folders(), "--listen", `127.0.0.1:${port}`);
    other.close();
    expect(status).toBe(1);
    for (const check of ["state folder", "registry", "TCP port"]) {
      expect(of(findings, check), check).toMatchObject({ verdict: "wrong" });
      expect(of(findings, check)?.advice).toMatch(/\S/);
    }
  });

  const listening = (): Promise<Server> =>
    new Promise((resolve) => {
      const server = createServer().listen(0, "127.0.0.1", () => resolve(server));
    });
});
