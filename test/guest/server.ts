// The Debian server of test/guest/image.ts as a guest: its console from the login prompt on, its
// reboots, and ways to its disk.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { parse, VmDefinition } from "../../api-schema/index.js";
import { type DebianImage, debianImage } from "./image.js";
import { VmProcess } from "./vm-process.js";

const MIB = 2 ** 20;
const BOOT_S = 240;
const COMMAND_S = 180;
const LOGIN = "debian login: ";

export interface ServerOptions {
  readonly folder: string;
  readonly name: string;
  /** Where the kernel finds its root: `/dev/vda`, `/dev/sda`. */
  readonly root: string;
  readonly devices: readonly object[];
  /** Words before the command: another user, another network. */
  readonly within?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
}

/** The same in every run, and another for every name. */
function uuidOf(name: string): string {
  const hash = createHash("md5").update(name).digest("hex");
  return hash.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

const define = ({ kernel, initrd }: DebianImage, { name, root, devices }: ServerOptions) =>
  parse(VmDefinition, {
    name,
    uuid: uuidOf(name),
    memory: 512 * MIB,
    boot: { kind: "linux", kernel, initrd, cmdline: `console=ttyS0 quiet root=${root}` },
    devices: [{ slot: "0:0", type: "hostbridge" }, ...devices, { slot: "31:0", type: "lpc" }],
  });

/** A copy of the image, for one guest to write to. */
export async function copyOfImage(file: string): Promise<string> {
  const { disk } = await debianImage();
  execFileSync("cp", ["--sparse=always", "--reflink=auto", disk, file]);
  return file;
}

/** The same as a qcow2 image, by qemu-img. */
export async function qcow2OfImage(file: string): Promise<string> {
  const { disk } = await debianImage();
  execFileSync("qemu-img", ["convert", "-f", "raw", "-O", "qcow2", disk, file]);
  return file;
}

export class DebianServer {
  readonly vm: VmProcess;
  #asked = 0;

  private constructor(vm: VmProcess) {
    this.vm = vm;
  }

  /** Resolves at the prompt of root's shell. */
  static async start(options: ServerOptions): Promise<DebianServer> {
    const { folder, name, within, environment } = options;
    const run = join(folder, name);
    mkdirSync(dirname(run), { recursive: true });
    const vm = await VmProcess.launch({
      folder: run,
      definition: define(await debianImage(), options),
      console: join(run, "console.log"),
      ...(within === undefined ? {} : { within }),
      ...(environment === undefined ? {} : { environment }),
    });
    const server = new DebianServer(vm);
    await vm.connection.call("start", {});
    await server.#login(0);
    return server;
  }

  /** Waits for the prompt that comes after `from` characters of output. */
  async #login(from: number): Promise<void> {
    await this.#after(from, LOGIN, BOOT_S);
    await this.vm.type("root\n");
    await this.ask("true");
  }

  /** What came after `from`, up to and without the mark. */
  async #after(from: number, mark: string, seconds: number): Promise<string> {
    const deadline = Date.now() + seconds * 1000;
    for (;;) {
      const fresh = this.vm.output().slice(from);
      const at = fresh.indexOf(mark);
      if (at >= 0) return fresh.slice(0, at).replaceAll("\r", "");
      if (Date.now() > deadline)
        throw new Error(`no ${JSON.stringify(mark)} in ${seconds} s: ${fresh.slice(-1200)}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  /** What a line prints; one that ends with another status than 0 is an error. */
  async ask(line: string, seconds = COMMAND_S): Promise<string> {
    const number = ++this.#asked;
    const from = this.vm.output().length;
    // The terminal's echo has `$?` where the answer has the status.
    await this.vm.type(`{ ${line}; } 2>&1; echo "<$?-${number}>"\n`);
    const all = await this.#after(from, `-${number}>\r\n`, seconds);
    const said = all.slice(all.indexOf("\n") + 1);
    const [, text = "", status] = /^([\s\S]*)<(\d+)$/.exec(said) ?? [];
    if (status !== "0") throw new Error(`${line} ended with ${status}: ${said.slice(-1200)}`);
    return text;
  }

  /** Restarts the guest as its own user would, up to the prompt of root's shell. */
  async reboot(): Promise<void> {
    const from = this.vm.output().length;
    await this.vm.type("reboot\n");
    await this.#login(from);
  }

  end(): Promise<void> {
    return this.vm.end();
  }
}

/** Words that run a command as root in a server, by ssh. */
export async function sshCommand(host: string, port = 22): Promise<readonly string[]> {
  const { privateKey } = await debianImage();
  const options = ["BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null"];
  return [
    ...["ssh", "-q", "-F", "none", "-i", privateKey, "-p", String(port)],
    ...[...options, "ConnectTimeout=20"].flatMap((option) => ["-o", option]),
    `root@${host}`,
  ];
}
