// A stock Debian kernel under a real daemon, for the system tests.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { VmView } from "../../api-schema/index.js";
import type { TestDaemon } from "../daemon/daemon.js";
import { Expect } from "../demo/expect.js";
import { debianBusybox, debianKernel } from "../guest/debian.js";
import { buildInitrd, SHELL_PROMPT } from "../guest/initrd.js";

const BOOT_TIMEOUT_S = 300;
const COMMAND_TIMEOUT_S = 120;

export interface Images {
  readonly kernel: string;
  readonly initrd: string;
}

export async function linuxImages(folder: string): Promise<Images> {
  const initrd = join(folder, "initrd.gz");
  writeFileSync(initrd, buildInitrd({ busybox: await debianBusybox() }));
  return { kernel: await debianKernel(), initrd };
}

/** Shell commands in a guest, through the console that a client of the daemon has. */
export class LinuxGuest {
  readonly name: string;
  readonly #daemon: TestDaemon;
  readonly #console: Expect;

  private constructor(name: string, daemon: TestDaemon, console: Expect) {
    this.name = name;
    this.#daemon = daemon;
    this.#console = console;
  }

  /** Resolves at the shell's first prompt. */
  static async boot(daemon: TestDaemon, name: string, more: object = {}): Promise<LinuxGuest> {
    const images = await linuxImages(daemon.folder);
    await daemon.client.json("POST", "/vms", {
      name,
      memory: 512 * 2 ** 20,
      boot: { kind: "linux", ...images, cmdline: "console=ttyS0" },
      ...more,
    });
    await daemon.start(name);
    const console = await Expect.attach(daemon.client, name);
    console.follow();
    await console.until(SHELL_PROMPT, BOOT_TIMEOUT_S);
    return new LinuxGuest(name, daemon, console);
  }

  /** What the command prints, lines ended by LF. */
  async run(command: string, timeout = COMMAND_TIMEOUT_S): Promise<string> {
    this.#console.send(`${command}\n`);
    const output = (await this.#console.until(SHELL_PROMPT, timeout)).replaceAll("\r", "");
    return output.slice(output.indexOf("\n") + 1);
  }

  type(text: string): void {
    this.#console.send(text);
  }

  view(): Promise<VmView> {
    return this.#daemon.vm(this.name);
  }

  async stop(): Promise<void> {
    this.#console.close();
    await this.#daemon.client.json("POST", `/vms/${this.name}/stop`);
  }
}
