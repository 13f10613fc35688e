// bin/xhyve: one VM in the foreground, with the original's command line and exit statuses.
import { type ChildProcess, spawn } from "node:child_process";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { eventually, temporaryFolder } from "../daemon/daemon.js";
import { guests } from "../daemon/guests.js";
import { SHELL_PROMPT } from "../guest/initrd.js";
import { projectRoot } from "../guest/paths.js";
import { type Images, linuxImages } from "./linux.js";

const BOOT_TIMEOUT_S = 300;

let folder = "";
let images: Images;
beforeAll(async () => {
  folder = temporaryFolder();
  images = await linuxImages(folder);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Run {
  readonly child: ChildProcess;
  readonly status: Promise<number | null>;
  output(): string;
}

function xhyve(...args: string[]): Run {
  const child = spawn(join(projectRoot, "bin", "xhyve"), args, { stdio: ["pipe", "pipe", "pipe"] });
  let text = "";
  const hear = (data: Buffer): void => {
    text += data.toString("latin1");
  };
  child.stdout?.on("data", hear);
  child.stderr?.on("data", hear);
  const status = new Promise<number | null>((resolve) => child.once("close", resolve));
  return { child, status, output: () => text };
}

const linux = (): Run =>
  xhyve(
    ...["-A", "-m", "512M", "-c", "2", "-s", "0:0,hostbridge", "-s", "31,lpc", "-l", "com1,stdio"],
    ...["-f", `kexec,${images.kernel},${images.initrd},console=ttyS0`],
  );

async function inShell(command: string): Promise<number | null> {
  const run = linux();
  try {
    await eventually(() => run.output().includes(SHELL_PROMPT), BOOT_TIMEOUT_S);
    expect(run.output()).toContain("Command line: console=ttyS0");
    run.child.stdin?.write(`${command}\n`);
    return await Promise.race([
      run.status,
      new Promise<null>((resolve) => setTimeout(() => resolve(null), 300_000).unref()),
    ]);
  } finally {
    run.child.kill("SIGKILL");
  }
}

it.each([
  ["poweroff -f", 1],
  ["reboot -f", 0],
  ["halt -f", 2],
])("Linux's %s ends it with status %i", async (command, status) => {
  expect(await inShell(command)).toBe(status);
});

it("a guest of a few bytes: each end has its status", async () => {
  const devices = ["-m", "16M", "-s", "0:0,hostbridge", "-s", "31,lpc", "-l", "com1,stdio"];
  for (const [name, status] of [
    ["tripleFault", 3],
    ["halt", 2],
    ["powerOff", 1],
    ["reset", 0],
  ] as const) {
    const kernel = join(folder, `${name}.bin`);
    writeFileSync(kernel, guests[name]);
    expect(await xhyve(...devices, "-f", `multiboot,${kernel}`).status).toBe(status);
  }
});
