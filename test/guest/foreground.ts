// A Debian kernel in `bin/xhyve`, with busybox and lines of shell: what it printed, and its end.
import { type ChildProcess, spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { debianBusybox, debianKernel } from "./debian.js";
import { buildInitrd } from "./initrd.js";
import { projectRoot } from "./paths.js";
import { virtioModules } from "./virtio.js";

export interface ForegroundOptions {
  /** Where the initrd goes. */
  readonly folder: string;
  readonly lines: readonly string[];
  /** Of devices: `-s`, `3,virtio-blk,…` */
  readonly flags: readonly string[];
  readonly files?: Readonly<Record<string, Buffer>>;
}

export class ForegroundGuest {
  readonly child: ChildProcess;
  output = "";

  private constructor(child: ChildProcess) {
    this.child = child;
    const more = (data: Buffer): void => {
      this.output += data.toString("latin1").replaceAll("\r", "");
    };
    child.stdout?.on("data", more);
    child.stderr?.on("data", more);
  }

  static async start({ folder, lines, flags, files }: ForegroundOptions): Promise<ForegroundGuest> {
    const kernel = await debianKernel();
    const modules = virtioModules(kernel);
    const script = [modules.script({}), "mkdir /mnt", ...lines, "poweroff -f"].join("\n");
    const initrd = join(folder, "initrd.gz");
    const busybox = await debianBusybox();
    const all = { ...modules.files, ...files };
    writeFileSync(initrd, buildInitrd({ busybox, files: all, script }));
    const boot = `kexec,${kernel},${initrd},console=ttyS0 quiet`;
    const machine = ["-A", "-m", "256M", "-s", "0,hostbridge", "-s", "31,lpc", "-l", "com1,stdio"];
    const program = join(projectRoot, "bin", "xhyve");
    const child = spawn(program, [...machine, ...flags, "-f", boot], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    return new ForegroundGuest(child);
  }

  /** Resolves when the output has it; rejects at the guest's end or after the time. */
  async waitFor(pattern: RegExp, seconds: number): Promise<void> {
    const deadline = Date.now() + 1000 * seconds;
    while (!pattern.test(this.output)) {
      if (Date.now() > deadline || this.child.exitCode !== null)
        throw new Error(`no ${pattern}: ${this.output.slice(-800)}`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  /** The exit status; killed after the time. */
  async end(seconds: number): Promise<number | null> {
    const timer = setTimeout(() => this.child.kill("SIGKILL"), 1000 * seconds);
    const status = await new Promise<number | null>((resolve) =>
      this.child.exitCode === null && this.child.signalCode === null
        ? this.child.once("close", resolve)
        : resolve(this.child.exitCode),
    );
    clearTimeout(timer);
    return status;
  }

  async kill(): Promise<void> {
    this.child.kill("SIGKILL");
    await this.end(60);
  }
}
