// `npm run demo`: a stock Debian kernel in a VM that a few requests created, its console on this
// terminal, from download to power-off. Every request is printed as the curl line that makes it.
//
//   npm run demo -- [--kernel FILE --initrd FILE] [--cpus N] [--memory SIZE]
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import type { VmView } from "../../api-schema/index.js";
import { Client } from "../../daemon/cli/client.js";
import { parseBytes } from "../../daemon/cli/table.js";
import { debianBusybox, debianKernel, NoDebianPackages } from "../guest/debian.js";
import { buildInitrd, SHELL_PROMPT, USER_SPACE_MARKER } from "../guest/initrd.js";
import { projectRoot } from "../guest/paths.js";
import { Expect } from "./expect.js";

const COMMANDS = [
  "uname -a",
  "cat /proc/cpuinfo",
  "cat /proc/interrupts",
  "grep . /sys/devices/system/cpu/vulnerabilities/*",
];
const BOOT_TIMEOUT_S = 300;
const COMMAND_TIMEOUT_S = 60;

interface Images {
  readonly kernel: string;
  readonly initrd: string;
}

interface Statistics {
  readonly cpuUser: number;
  readonly cpuSystem: number;
  readonly vcpus: readonly Readonly<Record<string, number>>[];
}

const say = (text: string): void => void process.stdout.write(`${text}\n`);

const NO_APT = `This demo takes its kernel from Debian's packages, and that did not work here.
Pass a Linux kernel (bzImage) and an initial RAM file system of your own, whose init
starts a shell on ttyS0 with the prompt "${SHELL_PROMPT}" after printing "${USER_SPACE_MARKER}":

  npm run demo -- --kernel vmlinuz --initrd initrd.gz`;

async function findImages(values: { kernel?: string; initrd?: string }): Promise<Images> {
  if (values.kernel !== undefined && values.initrd !== undefined)
    return { kernel: resolve(values.kernel), initrd: resolve(values.initrd) };
  const kernel = await debianKernel();
  const folder = join(projectRoot, ".cache", "demo");
  const initrd = join(folder, "initrd.gz");
  mkdirSync(folder, { recursive: true });
  writeFileSync(initrd, buildInitrd({ busybox: await debianBusybox() }));
  return { kernel, initrd };
}

async function startDaemon(folder: string, socket: string): Promise<ChildProcess> {
  const args = [
    "--state-dir",
    join(folder, "state"),
    "--runtime-dir",
    folder,
    "--log-level",
    "warn",
  ];
  say(`$ xhyved ${args.join(" ")} &`);
  const daemon = spawn(process.execPath, [join(projectRoot, "bin", "xhyved"), ...args], {
    stdio: "inherit",
  });
  while (!existsSync(socket)) {
    if (daemon.exitCode !== null) throw new Error("the daemon did not start");
    await new Promise((done) => setTimeout(done, 20));
  }
  return daemon;
}

/** Makes the request, after printing it as curl would make it. */
async function ask<T>(client: Client, method: string, path: string, body?: unknown): Promise<T> {
  const data =
    body === undefined ? "" : ` -H 'content-type: application/json' -d '${JSON.stringify(body)}'`;
  say(`$ curl --unix-socket ${client.where} -X ${method} http://localhost/v1${path}${data}`);
  return client.json<T>(method, path, body);
}

async function session(console_: Expect): Promise<void> {
  for (const command of COMMANDS) {
    console_.send(`${command}\n`);
    await console_.until(SHELL_PROMPT, COMMAND_TIMEOUT_S);
  }
}

async function play(client: Client, images: Images, cpus: number, memory: number): Promise<void> {
  const definition = {
    name: "demo",
    cpus,
    memory,
    boot: { kind: "linux", ...images, cmdline: "console=ttyS0" },
  };
  await ask(client, "POST", "/vms", definition);
  const console_ = await Expect.attach(client, "demo", process.stdout);
  const began = process.hrtime.bigint();
  await ask(client, "POST", "/vms/demo/start");
  console_.follow();
  await console_.until(USER_SPACE_MARKER, BOOT_TIMEOUT_S);
  const wall = Number(process.hrtime.bigint() - began) / 1e9;
  const boot = await client.json<Statistics>("GET", "/vms/demo/statistics");
  await console_.until(SHELL_PROMPT, COMMAND_TIMEOUT_S);
  await session(console_);
  const whole = await client.json<Statistics>("GET", "/vms/demo/statistics");
  console_.send("poweroff -f\n");
  const vm = await waitUntilOff(client);
  summary(vm, wall, boot, whole);
  await client.json("DELETE", "/vms/demo");
}

async function waitUntilOff(client: Client): Promise<VmView> {
  for (let tries = 0; tries < 600; tries++) {
    const vm = await client.json<VmView>("GET", "/vms/demo");
    if (vm.status.state === "stopped" || vm.status.state === "failed") return vm;
    await new Promise((done) => setTimeout(done, 50));
  }
  throw new Error("the guest did not power off");
}

const instructionsOf = ({ vcpus }: Statistics): number =>
  vcpus.reduce((sum, vcpu) => sum + (vcpu.instructions ?? 0), 0);

function summary(vm: VmView, wall: number, boot: Statistics, whole: Statistics): void {
  const cpu = boot.cpuUser + boot.cpuSystem;
  const instructions = instructionsOf(boot);
  const rows: [string, string][] = [
    ["time to user space", `${wall.toFixed(2)} s (${cpu.toFixed(2)} s of CPU)`],
    ["instructions to user space", instructions.toLocaleString("en")],
    ["instructions in all", instructionsOf(whole).toLocaleString("en")],
    ["instructions per second", `${(instructions / cpu / 1e6).toFixed(0)} million per CPU second`],
    ["state", vm.status.state],
    ["reason", vm.status.reason ?? "-"],
  ];
  say(`\n${rows.map(([name, value]) => `${name.padEnd(28)}${value}`).join("\n")}`);
  if (vm.status.state !== "stopped" || vm.status.reason !== "guest power-off") process.exitCode = 1;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      kernel: { type: "string" },
      initrd: { type: "string" },
      cpus: { type: "string", default: "1" },
      memory: { type: "string", default: "512M" },
    },
  });
  const memory = parseBytes(values.memory);
  if (memory === undefined) throw new Error("--memory takes a size such as 512M");
  const images = await findImages(values);
  const folder = mkdtempSync(join(tmpdir(), "xhyved-"));
  const socket = join(folder, "xhyved.sock");
  const daemon = await startDaemon(folder, socket);
  const client = new Client({ socket });
  try {
    await play(client, images, Number(values.cpus), memory);
  } finally {
    await client.json("POST", "/vms/demo/stop").catch(() => {}); // it may not be there any more
    daemon.kill("SIGTERM");
    rmSync(folder, { recursive: true, force: true });
  }
}

main().catch((error: unknown) => {
  if (error instanceof NoDebianPackages) say(`${error.message}\n\n${NO_APT}`);
  else say(`the demo failed: ${error instanceof Error ? error.message : String(error)}`);
  process.exit(1);
});
