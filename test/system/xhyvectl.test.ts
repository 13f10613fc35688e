// bin/xhyvectl against a real daemon and a real Linux guest: what a person types and sees.
import { spawn } from "node:child_process";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { eventually, TestDaemon } from "../daemon/daemon.js";
import { SHELL_PROMPT } from "../guest/initrd.js";
import { projectRoot } from "../guest/paths.js";
import { type Images, linuxImages } from "./linux.js";

const BOOT_TIMEOUT_S = 300;
const CTRL_CLOSE_BRACKET = "\x1d";
const program = join(projectRoot, "bin", "xhyvectl");

let daemon: TestDaemon;
let images: Images;
beforeAll(async () => {
  daemon = await TestDaemon.start();
  images = await linuxImages(daemon.folder);
});
afterAll(() => daemon.end());

interface Result {
  readonly status: number | null;
  readonly out: string;
  readonly err: string;
}

function ctl(...args: string[]): Promise<Result> {
  const child = spawn(program, args, {
    env: { ...process.env, XHYVED_SOCKET: daemon.socket },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let [out, err] = ["", ""];
  child.stdout.on("data", (data: Buffer) => {
    out += data.toString();
  });
  child.stderr.on("data", (data: Buffer) => {
    err += data.toString();
  });
  return new Promise((resolve) => child.once("close", (status) => resolve({ status, out, err })));
}

it("create, list, show, start, console, stop, delete, as text and as JSON", async () => {
  expect((await ctl("list")).out).toContain("xhyvectl create --help");
  const created = await ctl(
    ...["create", "web", "-k", images.kernel, "-i", images.initrd],
    ...["-a", "console=ttyS0", "-m", "512M", "-c", "2"],
  );
  expect(created).toMatchObject({ status: 0, err: "" });
  expect(created.out).toMatch(/^web is defined \([0-9a-f-]{36}\)\n$/);

  const again = await ctl("create", "web", "-k", images.kernel);
  expect(again).toEqual({ status: 1, out: "", err: "xhyvectl: a VM named web exists\n" });
  const json = await ctl("create", "web", "-k", images.kernel, "--json");
  expect(JSON.parse(json.out)).toMatchObject({ code: "VM_EXISTS", status: 409 });

  expect((await ctl("list")).out).toMatch(
    /^NAME +STATE +CPUS +MEMORY +PID +REASON *\nweb +defined +2 +512 MiB +-/,
  );
  expect((await ctl("start", "web")).out).toBe("web is running\n");
  expect((await ctl("start", "web")).err).toBe(
    "xhyvectl: a VM that is running cannot start; it can: shutdown, stop, kill, reset, pause, change\n",
  );
  const [listed] = JSON.parse((await ctl("list", "--json")).out) as { status: { pid: number } }[];
  expect(listed).toMatchObject({ name: "web", status: { state: "running" } });
  expect((await ctl("list")).out).toMatch(
    new RegExp(`web +running +2 +512 MiB +${listed?.status.pid}`),
  );
  const shown = await ctl("show", "web", "--json");
  expect(JSON.parse(shown.out)).toMatchObject({ name: "web", statistics: { vcpus: [{}, {}] } });
  expect((await ctl("show", "web")).out).toMatch(/^ {2}state: running$/m);

  await inTerminal();

  expect((await ctl("console", "web", "--log")).out).toContain("Linux version");
  expect((await ctl("delete", "web")).err).toMatch(
    /^xhyvectl: a VM that is running cannot be deleted; it can: shutdown, stop, /,
  );
  expect((await ctl("stop", "web")).out).toBe("web is stopped (stop requested)\n");
  expect((await ctl("delete", "web", "--json")).out).toBe('{\n  "deleted": "web"\n}\n');
  expect((await ctl("list", "--json")).out).toBe("[]\n");
});

/** A terminal of its own by util-linux's script: raw, until the escape key. */
async function inTerminal(): Promise<void> {
  const child = spawn("script", ["-qfec", `${program} console web --all`, "/dev/null"], {
    env: { ...process.env, XHYVED_SOCKET: daemon.socket },
    stdio: ["pipe", "pipe", "inherit"],
  });
  let seen = "";
  child.stdout.on("data", (data: Buffer) => {
    seen += data.toString("latin1");
  });
  const status = new Promise<number | null>((resolve) => child.once("close", resolve));
  await eventually(() => seen.includes(SHELL_PROMPT), BOOT_TIMEOUT_S);
  child.stdin.write("echo in-$((6*7)); sleep 10000\n");
  await eventually(() => seen.includes("in-42"), 120);
  child.stdin.write("\x03"); // for the guest's shell, not for xhyvectl
  await eventually(() => seen.indexOf(SHELL_PROMPT, seen.indexOf("in-42")) > 0, 120);
  child.stdin.write(CTRL_CLOSE_BRACKET);
  expect(await status).toBe(0);
  expect(seen).toContain("connected to web; Ctrl-] leaves");
}

it("says what is wrong with what was typed", async () => {
  expect((await ctl("explode")).err).toContain("'xhyvectl --help' lists them");
  expect((await ctl("start")).err).toContain("name one VM");
  expect((await ctl("start", "nobody")).err).toBe("xhyvectl: there is no VM nobody\n");
  expect((await ctl("create", "x", "-k", "/k", "-m", "many")).err).toContain("512M");
  expect((await ctl("create", "x", "-k", "/k", "-c", "65")).err).toContain("body.cpus");
  expect((await ctl("create", "x")).err).toContain("--kernel");
  expect((await ctl("list", "--colour")).err).toContain("--colour");
  const nobody = await ctl("list", "--socket", "/nowhere.sock");
  expect(nobody.status).toBe(1);
  expect(nobody.err).toContain("/nowhere.sock");
  for (const command of ["create", "console", "start"])
    expect((await ctl(command, "--help")).out).toContain(`usage: xhyvectl ${command}`);
});
