import { mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, describe, expect, it, vi } from "vitest";
import { parse, VmDefinition, type VmStatus } from "../api-schema/index.js";
import { NoneBackend } from "../devices/serial/backend.js";
import { buildVm } from "./build.js";
import { FakeMachine } from "./fakes.js";
import { namedFiles } from "./host-files.js";
import { multibootHeader } from "./loaders/fakes.js";

/** The default second is short on a busy host. */
const waitFor = <T>(look: () => T | Promise<T>): Promise<T> => vi.waitFor(look, 30_000);

const folder = mkdtempSync(join(tmpdir(), "xhyved-machine-"));
afterAll(() => rmSync(folder, { recursive: true }));
afterEach(() => void vi.useRealTimers());

const BASE = 0x100000;
const kernel = join(folder, "kernel");
const header = multibootHeader(0x10000, [BASE, BASE, 0, 0, BASE + 32]);
writeFileSync(kernel, Buffer.concat([header, new Uint8Array(64).fill(0x90)]));

const define = (changes: Partial<VmDefinition> = {}): VmDefinition =>
  parse(VmDefinition, {
    name: "test",
    uuid: "01234567-89ab-cdef-0123-456789abcdef",
    memory: 4 * 2 ** 20,
    boot: { kind: "multiboot", kernel },
    debugexit: true,
    shutdownTimeout: 5,
    ...changes,
  });

interface Options {
  readonly onReset?: "restart" | "exit";
  readonly restore?: string;
  readonly definition?: Partial<VmDefinition>;
}

async function make(options: Options = {}) {
  const definition = define(options.definition);
  const machine = new FakeMachine(definition.memory);
  const ports = {
    com1: new NoneBackend(),
    com2: new NoneBackend(),
    pci: new Map(),
    console: undefined,
  };
  const { vm } = await buildVm(definition, {
    createMachine: () => machine,
    files: namedFiles(() => true),
    openSerial: async () => ports,
    onReset: options.onReset ?? "restart",
    restore: options.restore,
  });
  const states: string[] = [];
  vm.onStatus((status) => states.push(status.state));
  return { vm, machine, states };
}

async function started(options: Options = {}) {
  const made = await make(options);
  await made.vm.start();
  return made;
}

const refusal = (act: Promise<unknown>): Promise<string> =>
  act.then(
    () => "accepted",
    (error: Error) => error.message,
  );

const statusOf = ({ state, reason, exitStatus }: VmStatus) => ({ state, reason, exitStatus });

describe("a VM", () => {
  it("is placed, then runs", async () => {
    const { vm, machine, states } = await started();
    expect(states).toEqual(["starting", "running"]);
    expect(machine.calls).toEqual(["start"]);
    expect(machine.cpu).toMatchObject({ rip: BASE + 32, tr: "kept" });
    expect(machine.memory.bytes.subarray(BASE, BASE + 12)).toEqual(header.subarray(0, 12));
    const found = Buffer.from(machine.memory.bytes.subarray(0xf0000, 0x100000)).toString("latin1");
    for (const anchor of ["_MP_", "_SM_", "RSD PTR "]) expect(found).toContain(anchor);
    await vm.stop();
  });

  it("has memory write-back and the hole below 4 GiB uncacheable", async () => {
    const { machine } = await started();
    // SDM Vol. 3, "Memory Type Range Registers": E and type 6; base 3 GiB type 0, mask of 1 GiB, V
    const [base, mask, ...rest] = machine.cpu.mtrrVariable as number[];
    expect(machine.cpu.mtrrDefType).toBe(0x806);
    expect([base?.toString(16), mask?.toString(16)]).toEqual(["c0000000", "3fffc0000800"]);
    expect(rest).toEqual(new Array(14).fill(0));
  });

  it("has no ACPI or MP tables where the definition wants none", async () => {
    const firmware = { ...define().firmware, acpi: false, mpTable: false };
    const { machine } = await started({ definition: { firmware } });
    const found = Buffer.from(machine.memory.bytes.subarray(0xf0000, 0x100000)).toString("latin1");
    expect(found).not.toMatch(/_MP_|RSD PTR /);
  });

  it("counts every change of its state", async () => {
    const { vm } = await started();
    expect(vm.status.generation).toBe(2);
    await vm.pause();
    await vm.resume();
    expect(vm.status).toEqual({ state: "running", generation: 4, resets: 0 });
  });

  it("refuses what its state forbids", async () => {
    const { vm } = await make();
    expect(await refusal(vm.pause())).toBe("a VM that is created cannot pause");
    await vm.start();
    expect(await refusal(vm.start())).toBe("a VM that is running cannot start");
    expect(() => vm.registers(0)).toThrow("running");
    await vm.stop();
    expect(await refusal(vm.stop())).toBe("a VM that is stopped cannot stop");
  });

  it("shows registers of CPUs that it has, while paused", async () => {
    const { vm } = await started();
    await vm.pause();
    expect(vm.registers(0).version).toBe(1);
    expect(() => vm.registers(1)).toThrow("there is no vCPU 1; the VM has 1");
  });
});

describe("what a guest does", () => {
  it.each([
    ["powers off by S5", (m: FakeMachine) => m.bus.out(0x404, 0x3400, 2), "guest power-off", 1],
    ["ends with a status", (m: FakeMachine) => m.bus.out(0xf4, 3), "guest debug exit", 7],
    ["halts", (m: FakeMachine) => m.tell({ kind: "halted" }), "guest halt", 2],
  ] as const)("stops it: it %s", async (_, act, reason, exitStatus) => {
    const { vm, machine } = await started();
    act(machine);
    expect(statusOf(await vm.ended)).toEqual({ state: "stopped", reason, exitStatus });
    expect(machine.calls).toEqual(["start", "pause", "destroy"]);
    expect(machine.bus.ranges.size).toBe(0);
  });

  it("fails it: a triple fault, and strict I/O", async () => {
    const triple = await started();
    triple.machine.tell({ kind: "triple-fault", vcpu: 0 });
    const last = await triple.vm.ended;
    expect(statusOf(last)).toMatchObject({ state: "failed", reason: "guest triple fault" });
    expect([last.exitStatus, last.detail]).toEqual([3, "vCPU 0"]);
    const strict = await started();
    strict.machine.tell({ kind: "unhandled-io", access: "inb 0x123" });
    expect((await strict.vm.ended).reason).toBe("unhandled I/O");
  });

  it.each([
    ["0xCF9", (m: FakeMachine) => m.bus.out(0xcf9, 6)],
    ["the 8042", (m: FakeMachine) => m.bus.out(0x64, 0xfe)],
  ])("restarts it in place by %s", async (_, act) => {
    const { vm, machine } = await started();
    machine.memory.bytes.fill(0xee, BASE, BASE + 64);
    machine.cpu = { rip: 1 };
    act(machine);
    await waitFor(() => expect(vm.status.resets).toBe(1));
    expect(machine.calls).toEqual(["start", "pause", "reset", "resume"]);
    expect(machine.cpu).toMatchObject({ rip: BASE + 32 });
    expect(machine.memory.bytes[BASE]).toBe(header[0]);
    expect(vm.status.state).toBe("running");
  });

  it("restarts once though it asked by every way at once", async () => {
    const { vm, machine } = await started();
    let park = (): void => {};
    machine.parked = new Promise((resolve) => {
      park = resolve;
    });
    machine.bus.out(0x64, 0xfe);
    await waitFor(() => expect(machine.calls).toContain("pause"));
    machine.bus.out(0x64, 0xfe);
    machine.bus.out(0xcf9, 6);
    park();
    await vm.pause();
    expect(vm.status.resets).toBe(1);
  });

  it("ends it by a reset where that is wished", async () => {
    const { vm, machine } = await started({ onReset: "exit" });
    machine.bus.out(0xcf9, 6);
    expect(statusOf(await vm.ended)).toEqual({
      state: "stopped",
      reason: "guest reset",
      exitStatus: 0,
    });
  });

  it("fails where the kernel's file is cut off before a reset", async () => {
    const own = join(folder, "cut");
    writeFileSync(own, readFileSync(kernel));
    const { vm, machine } = await started({
      definition: { boot: { kind: "multiboot", kernel: own } },
    });
    truncateSync(own, 40);
    machine.bus.out(0xcf9, 6);
    const { state, detail } = await vm.ended;
    expect([state, detail]).toEqual(["failed", `${own} changed while it was read`]);
    expect(machine.calls.at(-1)).toBe("destroy");
  });

  it("survives that the file was replaced under its name", async () => {
    const own = join(folder, "replaced");
    writeFileSync(own, readFileSync(kernel));
    const { vm } = await started({ definition: { boot: { kind: "multiboot", kernel: own } } });
    rmSync(own);
    writeFileSync(own, "no kernel");
    expect((await vm.reset()).resets).toBe(1);
  });
});

describe("a shutdown", () => {
  it("stops at once a guest that would not notice", async () => {
    const { vm } = await started();
    await vm.shutdown();
    expect(vm.status).toMatchObject({ state: "stopped", reason: "stop requested" });
  });

  it("presses the button, and stops when the time is over", async () => {
    const { vm, machine } = await started();
    machine.bus.out(0xb2, 0xa0); // ACPI_ENABLE
    machine.bus.out(0x402, 0x100, 2);
    expect(vm.acpiEnabled).toBe(true);
    vi.useFakeTimers();
    await vm.shutdown();
    expect(machine.bus.in(0x400, 2) & 0x100).toBe(0x100); // PWRBTN_STS
    expect(machine.interrupts.wire("isa", 9).level).toBe(true);
    expect(vm.status.state).toBe("running");
    await vi.advanceTimersByTimeAsync(4999);
    expect(vm.status.state).toBe("running");
    await vi.advanceTimersByTimeAsync(1);
    expect((await vm.ended).reason).toBe("shutdown time limit");
  });

  it("forgets the time limit after a reset", async () => {
    const { vm, machine } = await started();
    machine.bus.out(0xb2, 0xa0);
    vi.useFakeTimers();
    await vm.shutdown(1);
    await vm.reset();
    await vi.advanceTimersByTimeAsync(5000);
    expect(vm.status.state).toBe("running");
  });
});

describe("a saved state", () => {
  const saved = async (name: string): Promise<string> => {
    const { vm, machine } = await started();
    machine.memory.write(0x200000, Uint8Array.of(1, 2, 3));
    machine.bus.out(0x3ff, 0x5a); // COM1's scratch register
    machine.cpu = { rip: 0x1234 };
    await vm.pause();
    const to = join(folder, name);
    expect(await vm.saveState(to)).toBe(4 * 2 ** 20);
    return to;
  };

  it("goes on in another machine, memory, devices and CPU", async () => {
    const restore = await saved("one");
    const { vm, machine } = await started({ restore });
    expect(machine.cpu).toEqual({ rip: 0x1234 });
    expect(machine.memory.bytes.subarray(0x200000, 0x200004)).toEqual(Uint8Array.of(1, 2, 3, 0));
    expect(machine.bus.in(0x3ff)).toBe(0x5a);
    expect(vm.status.state).toBe("running");
  });

  it("goes only into a folder that is not there, and only while paused", async () => {
    const to = await saved("two");
    const { vm } = await started();
    expect(await refusal(vm.saveState(join(folder, "x")))).toContain("running cannot be saved");
    await vm.pause();
    expect(await refusal(vm.saveState(to))).toContain("it exists already");
    expect(await refusal(vm.saveState("/nowhere/x"))).toContain("no such file or directory");
  });

  it("is refused by a machine that differs", async () => {
    const restore = await saved("three");
    expect(await refusal(make({ restore, definition: { cpus: 2 } }))).toBe(
      "the saved state has cpus 1, the VM 2",
    );
  });

  it("is refused where something is missing, with the place", async () => {
    const restore = await saved("four");
    const path = join(restore, "machine.json");
    const text = readFileSync(path, "utf8");
    writeFileSync(path, text.replace('"com1":{"version":2', '"com1":{"version":3'));
    const failed = await make({ restore });
    expect(await refusal(failed.vm.start())).toContain("com1");
    expect((await failed.vm.ended).state).toBe("failed");
    writeFileSync(path, text.slice(0, 100));
    expect(await refusal(make({ restore }))).toContain("the saved state");
    writeFileSync(path, text);
    truncateSync(join(restore, "memory.bin"), 8192);
    expect(await refusal((await make({ restore })).vm.start())).toContain("memory.bin is shorter");
  });

  it("is refused where the folder is no saved state", async () => {
    mkdirSync(join(folder, "empty"));
    expect(await refusal(make({ restore: join(folder, "empty") }))).toContain("no such file");
  });
});

describe("a definition that cannot be built", () => {
  const devices = (...slots: (readonly [string, "lpc" | "hostbridge"])[]) => ({
    definition: { devices: slots.map(([slot, type]) => ({ slot, type })) },
  });
  it.each([
    ["two devices are in PCI slot 0:3:0", devices(["3", "lpc"], ["3:0", "hostbridge"])],
    ["only one lpc is allowed", devices(["3", "lpc"], ["4", "lpc"])],
    ["lpc can only be on bus 0", devices(["1:3:0", "lpc"])],
    ["the slot is 0 to 31", devices(["32", "lpc"])],
    ["the function is 0 to 7", devices(["3:8", "lpc"])],
    ["COM1 needs an lpc device", devices(["0", "hostbridge"])],
    ["no such file", { definition: { boot: { kind: "multiboot", kernel: "/none" } } }],
    ["it is not a regular file", { definition: { boot: { kind: "multiboot", kernel: "/dev" } } }],
  ] as const)("is refused: %s", async (message, options) => {
    expect(await refusal(make(options as Options))).toContain(message);
  });

  it("leaves no machine behind where a serial port fails", async () => {
    const machine = new FakeMachine(4 * 2 ** 20);
    const built = buildVm(define(), {
      createMachine: () => machine,
      files: namedFiles(() => true),
      openSerial: () => Promise.reject(new Error("no port")),
      onReset: "exit",
    });
    expect(await refusal(built)).toBe("no port");
    expect(machine.calls).toEqual(["destroy"]);
  });

  it("says what the core says of the memory", async () => {
    const built = buildVm(define(), {
      createMachine: () => {
        throw new Error("guest memory cannot be had");
      },
      files: namedFiles(() => true),
      openSerial: () => Promise.reject(new Error("not reached")),
      onReset: "exit",
    });
    expect(await refusal(built)).toBe("the machine: guest memory cannot be had");
  });

  const refusedBy = (definition: VmDefinition, error: Error): Promise<unknown> =>
    buildVm(definition, {
      createMachine: () => {
        throw error;
      },
      files: namedFiles(() => true),
      openSerial: () => Promise.reject(new Error("not reached")),
      onReset: "exit",
    }).catch((refused: unknown) => refused);

  it("says which field the accelerator or the CPU model is refused by", async () => {
    const coded = (code: string, message: string): Error =>
      Object.assign(new Error(message), { code });
    expect(
      await refusedBy(define({ accelerator: "kvm" }), coded("ACCELERATOR_UNUSABLE", "no /dev/kvm")),
    ).toMatchObject({
      code: "ACCELERATOR_UNUSABLE",
      message: "the accelerator kvm cannot be used: no /dev/kvm",
    });
    expect(
      await refusedBy(define({ cpuModel: "host" }), coded("CPU_MODEL_UNUSABLE", "it is soft")),
    ).toMatchObject({
      code: "CPU_MODEL_UNUSABLE",
      message:
        "the CPU model host cannot be had: it is soft; it needs accelerator kvm, 'stable' runs on every one",
    });
  });

  it.each(["soft", "hvf"] as const)("has no CPU model of the host's on %s", async (accelerator) => {
    const definition = define({ accelerator, cpuModel: "host" });
    expect(await refusedBy(definition, new Error("asked for a machine"))).toMatchObject({
      code: "CPU_MODEL_UNUSABLE",
      message: expect.stringContaining(`accelerator ${accelerator} has only the stable model`),
    });
  });
});
