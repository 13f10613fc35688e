// A stock Debian kernel finds the machine it expects, and nothing to complain about.
import { readdirSync, readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { VmView } from "../../api-schema/index.js";
import { TestDaemon } from "../daemon/daemon.js";
import { dmesgProblems } from "../guest/dmesg.js";
import { LinuxGuest } from "./linux.js";

const MINUTE_S = 60;
const CPUS = 4;
/** Of what the CPUs have on average: on a host with fewer cores, or busy ones, they share those. */
const LEAST_SHARE = 1 / 3;
/** Of /proc/uptime's hundredths, and of a clock that is slewed meanwhile. */
const CLOCK_ERROR_S = 0.1;

let daemon: TestDaemon;
beforeAll(async () => {
  daemon = await TestDaemon.start();
});
afterAll(() => daemon.end());

describe("one CPU", () => {
  let guest: LinuxGuest;
  let dmesg = "";
  beforeAll(async () => {
    guest = await LinuxGuest.boot(daemon, "one");
    dmesg = await guest.run("dmesg");
  });
  afterAll(() => guest.stop());

  it("the kernel's log is clean", () => {
    expect(dmesgProblems(dmesg)).toEqual([]);
    expect(dmesg).toMatch(/ACPI: Interpreter enabled/);
  });

  it("its process could do no more than it has to", async () => {
    const { status } = await daemon.client.call("getVm", { vm: "one" });
    const kernel = readFileSync(`/proc/${status.pid}/status`, "utf8");
    expect(kernel).toMatch(/^NoNewPrivs:\s+1$/m);
    expect(kernel).toMatch(/^Seccomp:\s+2$/m);
    const threads = readdirSync(`/proc/${status.pid}/task`);
    for (const thread of threads)
      expect(readFileSync(`/proc/${status.pid}/task/${thread}/status`, "utf8")).toMatch(
        /^Seccomp:\s+2$/m,
      );
  });

  it("the TSC is the clock, known and not measured; HPET and PM timer are there", async () => {
    const folder = "/sys/devices/system/clocksource/clocksource0";
    expect(await guest.run(`cat ${folder}/current_clocksource`)).toBe("tsc\n");
    const all = (await guest.run(`cat ${folder}/available_clocksource`)).trim().split(" ");
    expect(all).toEqual(expect.arrayContaining(["tsc", "hpet", "acpi_pm"]));
    expect(dmesg).toMatch(/tsc: Detected [0-9.]+ MHz (TSC|processor)/);
    expect(dmesg).not.toMatch(/refined-jiffies.*unstable|Refined TSC|TSC calibration/i);
  });

  it("both COM ports are 16550A with their interrupts", () => {
    expect(dmesg).toMatch(/ttyS0 at I\/O 0x3f8 \(irq = 4, .*\) is a 16550A/);
    expect(dmesg).toMatch(/ttyS1 at I\/O 0x2f8 \(irq = 3, .*\) is a 16550A/);
  });

  it("PCI configuration goes through ECAM", () => {
    expect(dmesg).toMatch(/PCI: MMCONFIG for domain 0000 \[bus 00-ff\] at/);
    expect(dmesg).toMatch(/PCI: Using configuration type 1 for base access/);
    expect(dmesg).not.toMatch(/not using MMCONFIG/);
  });

  it("the RTC has the host's time", async () => {
    const before = Math.floor(Date.now() / 1000);
    const system = Number(await guest.run("date +%s"));
    const chip = Number(await guest.run("cat /sys/class/rtc/rtc0/since_epoch"));
    const after = Math.ceil(Date.now() / 1000);
    for (const time of [system, chip]) {
      expect(time).toBeGreaterThanOrEqual(before - 2);
      expect(time).toBeLessThanOrEqual(after + 2);
    }
    const hwclock = Date.parse(`${(await guest.run("hwclock -u -r")).trim().slice(0, 24)} UTC`);
    expect(hwclock / 1000).toBeGreaterThanOrEqual(after - 4);
    expect(hwclock / 1000).toBeLessThanOrEqual(Date.now() / 1000 + 4);
  });

  it("its clock runs at the host's pace", async () => {
    // Each look was at some moment between the question and the answer.
    const look = async () => {
      const asked = Date.now() / 1000;
      const uptime = Number((await guest.run("cat /proc/uptime")).split(" ")[0]);
      return { asked, uptime, answered: Date.now() / 1000 };
    };
    const first = await look();
    await new Promise((resolve) => setTimeout(resolve, 5000));
    const second = await look();
    const passed = second.uptime - first.uptime;
    expect(passed).toBeGreaterThan(second.asked - first.answered - CLOCK_ERROR_S);
    expect(passed).toBeLessThan(second.answered - first.asked + CLOCK_ERROR_S);
  });

  it("no vulnerability's mitigation costs the guest anything", async () => {
    const state = await guest.run("grep . /sys/devices/system/cpu/vulnerabilities/*");
    expect(state).toMatch(/meltdown:Not affected/);
    expect(state).toMatch(/mds:Not affected/);
    expect(state).not.toMatch(/PTI|Retpolines/);
  });

  it("the power button shuts down nobody who does not listen, and the time limit stops", async () => {
    const path = "/vms/one/shutdown?wait=stopped&timeout=120";
    const vm = await daemon.client.json<VmView>("POST", path, { timeout: 2 });
    expect(vm.status).toMatchObject({ state: "stopped", reason: "shutdown time limit" });
  });
});

describe("four CPUs", () => {
  it("all work for a minute, and none stalls", async () => {
    const guest = await LinuxGuest.boot(daemon, "four", { cpus: CPUS });
    expect(await guest.run("nproc")).toBe(`${CPUS}\n`);
    const ticks = async (): Promise<number[]> =>
      (await guest.run("grep '^cpu[0-9]' /proc/stat"))
        .trim()
        .split("\n")
        .map((line) => Number(line.split(/\s+/)[1]));
    const before = await ticks();
    const loop = `timeout ${MINUTE_S} sh -c 'while :; do :; done'`;
    await guest.run(`for cpu in 0 1 2 3; do taskset -c $cpu ${loop} & done; wait`, 8 * MINUTE_S);
    const user = (await ticks()).map((after, cpu) => (after - (before[cpu] ?? 0)) / 100);
    console.log(`seconds of user time on each CPU: ${user.join(", ")}`);
    const average = user.reduce((sum, seconds) => sum + seconds, 0) / CPUS;
    expect(average).toBeGreaterThan(1);
    for (const seconds of user) expect(seconds).toBeGreaterThan(LEAST_SHARE * average);
    expect(dmesgProblems(await guest.run("dmesg"))).toEqual([]);
    expect(await guest.run("cat /sys/devices/system/clocksource/*0/current_clocksource")).toBe(
      "tsc\n",
    );
    guest.type("poweroff -f\n");
    const vm = await daemon.client.json<VmView>("POST", "/vms/four/stop").then(() => guest.view());
    expect(vm.status.state).toBe("stopped");
  });
});
