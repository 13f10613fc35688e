// A stock kernel by every way in, on every shape of machine, and with the parts of the machine taken
// away one by one: each boot reaches a shell under the bar of test/guest/dmesg.ts.
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, it } from "vitest";
import { parse, VmDefinition } from "../../api-schema/index.js";
import { temporaryFolder } from "../daemon/daemon.js";
import { dmesgProblems } from "../guest/dmesg.js";
import { SHELL_PROMPT } from "../guest/initrd.js";
import { VmProcess } from "../guest/vm-process.js";
import { extractVmlinux, hasPvhNote, withoutPvhNote } from "../guest/vmlinux.js";
import { type Images, linuxImages } from "./linux.js";

const MIB = 2 ** 20;
const BOOT_S = 300;
const COMMAND_S = 240;

let folder = "";
let images: Images;
beforeAll(async () => {
  folder = temporaryFolder();
  images = await linuxImages(folder);
  const vmlinux = extractVmlinux(readFileSync(images.kernel));
  expect(hasPvhNote(vmlinux)).toBe(true);
  writeFileSync(join(folder, "pvh"), vmlinux);
  writeFileSync(join(folder, "no-pvh"), withoutPvhNote(vmlinux));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Boot {
  readonly name: string;
  readonly cpus?: number;
  /** MiB. */
  readonly memory?: number;
  readonly x2apic?: boolean;
  readonly cmdline?: string;
  /** A file of the test's folder instead of the bzImage. */
  readonly vmlinux?: "pvh" | "no-pvh";
  /** What the kernel's log must say. */
  readonly log?: readonly RegExp[];
  /** A command, and what it must print. */
  readonly shows?: readonly (readonly [command: string, output: RegExp])[];
}

const cpus = (count: number) => ["nproc", new RegExp(`^${count}$`)] as const;
const clocksource = (name: string) =>
  [
    "cat /sys/devices/system/clocksource/clocksource0/current_clocksource",
    new RegExp(`^${name}$`),
  ] as const;
/** Output of more than a FIFO goes by the PCI UART's level-triggered interrupt. */
const pciInterrupt = (line: RegExp) =>
  [
    "seq 30 > /dev/ttyS2; grep ^2: /proc/tty/driver/serial; cat /proc/interrupts",
    new RegExp(`port:00002000 irq:\\d+ tx:(?!0)[^]*${line.source}`),
  ] as const;
const XT_PIC = / 6: .* XT-PIC/;
const IO_APIC = / 19: .*IO-APIC {2}19-fasteoi/;

const BOOTS: readonly Boot[] = [
  { name: "-c 1", log: [/x86\/PAT: Configuration/], shows: [cpus(1), pciInterrupt(IO_APIC)] },
  ...[2, 4, 8].map(
    (count): Boot => ({
      name: `-c ${count}`,
      cpus: count,
      log: [new RegExp(`Brought up 1 node, ${count} CPUs`)],
      shows: [cpus(count), clocksource("tsc")],
    }),
  ),
  { name: "128 MiB", memory: 128, shows: [["grep MemTotal /proc/meminfo", /\b9\d{4} kB/]] },
  { name: "512 MiB", memory: 512, shows: [["grep MemTotal /proc/meminfo", /\b4[5-9]\d{4} kB/]] },
  {
    name: "5 GiB, 2 of them above 4 GiB",
    memory: 5 * 1024,
    log: [/BIOS-e820: \[mem 0x0000000100000000-0x000000017fffffff\] usable/],
    shows: [
      ["grep MemTotal /proc/meminfo", /\b(49|50|51)\d{5} kB/],
      ["dd if=/dev/zero of=/tmp/big bs=1M count=1024 2>&1 && rm /tmp/big", /1024\+0 records out/],
    ],
  },
  { name: "-x", cpus: 2, x2apic: true, log: [/x2apic/], shows: [cpus(2)] },
  { name: "noapic", cpus: 2, cmdline: "noapic", shows: [cpus(2), pciInterrupt(XT_PIC)] },
  // Debian's cloud kernel cannot read an MP table: no ACPI is one CPU and the 8259 pair to it.
  { name: "acpi=off", cpus: 2, cmdline: "acpi=off", shows: [cpus(1), pciInterrupt(XT_PIC)] },
  {
    name: "acpi=off noapic",
    cmdline: "acpi=off noapic",
    shows: [cpus(1), pciInterrupt(XT_PIC)],
  },
  { name: "nolapic", cmdline: "nolapic", shows: [cpus(1), pciInterrupt(XT_PIC)] },
  { name: "pci=nomsi", cpus: 2, cmdline: "pci=nomsi", shows: [pciInterrupt(IO_APIC)] },
  { name: "hpet=disable", cpus: 2, cmdline: "hpet=disable", shows: [clocksource("tsc")] },
  {
    name: "clocksource=acpi_pm",
    cpus: 2,
    cmdline: "clocksource=acpi_pm",
    shows: [clocksource("acpi_pm")],
  },
  { name: "lapic=notscdeadline", cpus: 2, cmdline: "lapic=notscdeadline", shows: [cpus(2)] },
  { name: "nosmp", cpus: 2, cmdline: "nosmp", shows: [cpus(1)] },
  // Linux's PVH entry adds the whole of the ISA area to the memory map that it was given.
  {
    name: "vmlinux by PVH",
    cpus: 2,
    vmlinux: "pvh",
    log: [/\[mem 0x0*9fc00-0x0*fffff\] reserved/],
    shows: [cpus(2)],
  },
  {
    name: "vmlinux by the 64-bit protocol",
    cpus: 2,
    vmlinux: "no-pvh",
    log: [/\[mem 0x0*f0000-0x0*fffff\] reserved/],
    shows: [cpus(2)],
  },
];

const define = (boot: Boot): VmDefinition =>
  parse(VmDefinition, {
    name: "boot",
    uuid: "11111111-2222-4333-8444-666666666666",
    cpus: boot.cpus ?? 1,
    memory: (boot.memory ?? 256) * MIB,
    boot: {
      kind: "linux",
      kernel: boot.vmlinux === undefined ? images.kernel : join(folder, boot.vmlinux),
      initrd: images.initrd,
      cmdline: `console=ttyS0 ${boot.cmdline ?? ""}`.trim(),
    },
    devices: [
      { slot: "0:0", type: "hostbridge" },
      { slot: "2:0", type: "uart" },
      { slot: "31:0", type: "lpc" },
    ],
    firmware: { x2apic: boot.x2apic ?? false },
  });

/** A guest at its shell's first prompt. */
class Guest {
  readonly #vm: VmProcess;
  #seen = 0;

  constructor(vm: VmProcess) {
    this.#vm = vm;
  }

  static async start(boot: Boot): Promise<Guest> {
    const run = join(folder, boot.name.replaceAll(/[^a-z0-9]+/g, "-"));
    const console = `${run}.log`;
    const vm = await VmProcess.launch({ folder: run, definition: define(boot), console });
    const guest = new Guest(vm);
    await vm.connection.call("start", {});
    return guest;
  }

  /** What came since the last prompt, up to the next. */
  async prompt(seconds: number): Promise<string> {
    const deadline = Date.now() + seconds * 1000;
    for (;;) {
      const fresh = this.#vm.output().slice(this.#seen);
      const at = fresh.indexOf(SHELL_PROMPT);
      if (at >= 0) {
        this.#seen += at + SHELL_PROMPT.length;
        return fresh.slice(0, at).replaceAll("\r", "");
      }
      if (Date.now() > deadline) throw new Error(`no prompt: ${fresh.slice(-600)}`);
      await sleep(20);
    }
  }

  async run(command: string): Promise<string> {
    await this.#vm.type(`${command}\n`);
    const output = await this.prompt(COMMAND_S);
    return output.slice(output.indexOf("\n") + 1).trimEnd();
  }

  async reboot(): Promise<string> {
    await this.#vm.type("reboot -f\n");
    return this.prompt(BOOT_S);
  }

  async resets(): Promise<number> {
    return (await this.#vm.connection.call("state", {})).status.resets;
  }

  end(): Promise<void> {
    return this.#vm.end();
  }
}

it.for(BOOTS)("$name", async (boot) => {
  const guest = await Guest.start(boot);
  try {
    const log = await guest.prompt(BOOT_S);
    expect(dmesgProblems(log)).toEqual([]);
    for (const line of boot.log ?? []) expect(log).toMatch(line);
    for (const [command, output] of boot.shows ?? [])
      expect(await guest.run(command)).toMatch(output);
  } finally {
    await guest.end();
  }
});

it("a reset in place, again and again", async () => {
  const guest = await Guest.start({ name: "reset", cpus: 2 });
  try {
    await guest.prompt(BOOT_S);
    for (const resets of [1, 2]) {
      expect(dmesgProblems(await guest.reboot())).toEqual([]);
      expect(await guest.resets()).toBe(resets);
      expect(await guest.run("nproc")).toBe("2");
    }
  } finally {
    await guest.end();
  }
});
