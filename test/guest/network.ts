// Networks for tests: namespaces of their own, so that nothing reaches the host's network, and guests
// that can do something with them.
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { debianBusybox, debianKernel } from "./debian.js";
import { buildInitrd } from "./initrd.js";
import { projectRoot } from "./paths.js";
import { virtioModules } from "./virtio.js";

/** What udhcpc calls: takes the address and says which. */
const LEASE_SCRIPT = `#!/bin/busybox sh
[ "$1" = bound ] || [ "$1" = renew ] || exit 0
/bin/busybox ip addr flush dev $interface
/bin/busybox ip addr add $ip/\${mask:-24} dev $interface
[ -n "$router" ] && /bin/busybox ip route add default via \${router%% *} dev $interface
echo "leased-$interface=$ip"
`;

/** A network namespace of the host; needs root. */
export class Namespace {
  readonly name: string;
  readonly #children: ChildProcess[] = [];

  constructor(name: string) {
    this.name = `${name}-${process.pid}`;
    execFileSync("ip", ["netns", "add", this.name]);
    this.run("ip link set lo up");
  }
  /** Words before a command that make it run inside. */
  get inside(): readonly string[] {
    return ["ip", "netns", "exec", this.name];
  }
  run(commands: string): string {
    const words = [...this.inside, "sh", "-ec", commands];
    return execFileSync(words[0] ?? "", words.slice(1), { encoding: "utf8" });
  }
  start(...command: readonly string[]): ChildProcess {
    const [program = "", ...words] = [...this.inside, ...command];
    const child = spawn(program, words, { stdio: ["ignore", "pipe", "inherit"] });
    this.#children.push(child);
    return child;
  }
  remove(): void {
    for (const child of this.#children) child.kill("SIGKILL");
    execFileSync("ip", ["netns", "del", this.name]);
  }
}

/** A kernel and an initrd whose guests have cards, DHCP and `vsock`. */
export async function networkGuest(folder: string): Promise<{ kernel: string; initrd: string }> {
  const kernel = await debianKernel();
  const { files, script } = virtioModules(kernel, true);
  const program = join(folder, "vsock");
  execFileSync("gcc", ["-static", "-O1", "-o", program, join(projectRoot, "test/guest/vsock.c")]);
  const initrd = join(folder, "initrd.gz");
  const more = {
    ...files,
    "lease.sh": Buffer.from(LEASE_SCRIPT),
    "bin/vsock": readFileSync(program),
  };
  const lines = `${script()}\nbusybox ip link set lo up`;
  const busybox = await debianBusybox();
  writeFileSync(initrd, buildInitrd({ busybox, files: more, script: lines }));
  return { kernel, initrd };
}

/** A DHCP server on an interface of a namespace, for one /24. */
export async function serveDhcp(
  place: Namespace,
  folder: string,
  network: string,
  card: string,
): Promise<void> {
  const conf = join(folder, `udhcpd-${card}.conf`);
  const leases = join(folder, `udhcpd-${card}.leases`);
  writeFileSync(leases, "");
  const lines = [
    `start ${network}.100`,
    `end ${network}.200`,
    `interface ${card}`,
    `lease_file ${leases}`,
    `pidfile ${leases}.pid`,
    "opt subnet 255.255.255.0",
    `opt router ${network}.1`,
  ];
  writeFileSync(conf, `${lines.join("\n")}\n`);
  place.start(await debianBusybox(), "udhcpd", "-f", conf);
}
