// The size of the terminal that a client's `xhyvectl console` runs on, as the guest's own stty sees it on
// a virtio console: when it attaches, when it changes, and again after a start of the VM.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { afterAll, beforeAll, expect, it } from "vitest";
import { attachConsole } from "../../daemon/cli/console.js";
import { eventually, TestDaemon } from "../daemon/daemon.js";
import { debianBusybox, debianKernel } from "../guest/debian.js";
import { buildInitrd } from "../guest/initrd.js";
import { virtioModules } from "../guest/virtio.js";

const BOOT_S = 300;
const ANSWER_S = 120;

let daemon: TestDaemon;
beforeAll(async () => {
  daemon = await TestDaemon.start();
});
afterAll(() => daemon.end());

/** A terminal whose window can be drawn larger: what attachConsole() needs of one. */
class Terminal extends PassThrough {
  readonly isTTY = true;
  printed = "";
  columns = 100;
  rows = 30;

  constructor() {
    super();
    this.on("data", (data: Buffer) => {
      this.printed += data.toString("latin1");
    });
  }
  resize(columns: number, rows: number): void {
    [this.columns, this.rows] = [columns, rows];
    this.emit("resize"); // as a tty.WriteStream does at SIGWINCH
  }
}

const attach = (vm: string) => {
  const [terminal, keys] = [new Terminal(), new PassThrough()];
  const streams = { output: terminal as never, input: keys as never, notes: new PassThrough() };
  const ended = attachConsole(daemon.client, vm, {
    ...streams,
    notes: streams.notes as never,
    offset: 0,
    leaveBy: undefined,
  });
  ended.catch(() => {}); // where the test has failed before, that is what is told
  return { terminal, keys, ended };
};

async function guest(): Promise<void> {
  const kernel = await debianKernel();
  const { files, script } = virtioModules(kernel);
  const shell = "exec setsid sh -c 'exec sh </dev/hvc0 >/dev/hvc0 2>&1'";
  const initrd = join(daemon.folder, "initrd.gz");
  const lines = `${script()}\n${shell}`;
  writeFileSync(initrd, buildInitrd({ busybox: await debianBusybox(), files, script: lines }));
  await daemon.client.json("POST", "/vms", {
    name: "sized",
    boot: { kind: "linux", kernel, initrd, cmdline: "console=ttyS0 quiet" },
    serial: { com1: { backend: "file", path: join(daemon.folder, "com1.txt") } },
    devices: [
      ...[{ type: "hostbridge" }, { type: "lpc" }],
      { type: "virtio-console", serial: { backend: "console" } },
    ],
  });
}

type Session = ReturnType<typeof attach>;

/** Asked until it is so: the guest hears of a size by an interrupt, in its own time. */
const sees = ({ terminal, keys }: Session, size: string): Promise<boolean> =>
  eventually(async () => {
    terminal.printed = "";
    keys.write("stty size\n");
    await new Promise((resolve) => setTimeout(resolve, 500));
    return terminal.printed.includes(`\n${size}\r\n`);
  }, ANSWER_S);

it(
  "a virtio console knows the size of the terminal",
  async () => {
    await guest();
    await daemon.start("sized");
    const first = attach("sized");
    await eventually(() => first.terminal.printed.includes("# "), BOOT_S);
    expect(await sees(first, "30 100")).toBe(true);
    first.terminal.resize(132, 43);
    expect(await sees(first, "43 132")).toBe(true);
    await daemon.client.call("killVm", { vm: "sized" });
    await first.ended;

    await daemon.start("sized");
    const second = attach("sized");
    await eventually(() => second.terminal.printed.includes("# "), BOOT_S);
    expect(await sees(second, "30 100")).toBe(true);
  },
  2 * (BOOT_S + ANSWER_S) * 1000,
);
