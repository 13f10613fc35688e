// The whole native half through the addon, with small guest programs.
import { isDeepStrictEqual } from "node:util";
import { afterEach, describe, expect, test } from "vitest";
import { acceleratorInfo, automaticAccelerator, createMachine } from "./index.js";
import type { InterruptLine, Machine, MachineEvent, MachineOptions, Range } from "./types.js";

const MIB = 2 ** 20;
const made: Machine[] = [];
afterEach(async () => {
  for (const machine of made.splice(0)) await machine.destroy();
});

const machineWith = (options: Partial<MachineOptions> = {}): Machine => {
  const machine = createMachine({ cpus: 1, memory: 16 * MIB, accelerator: "soft", ...options });
  made.push(machine);
  return machine;
};

/** Real mode at 0x1000, flat at 0; the program is 16-bit code. */
function load(machine: Machine, program: readonly number[], changes: object = {}, vcpu = 0): void {
  machine.memory.write(0x1000, Uint8Array.from(program));
  const saved = machine.vcpu(vcpu);
  const state = saved.state as { segments: { selector: number; base: number }[] };
  const flat = (segment: object) => ({ ...segment, selector: 0, base: 0 });
  machine.setVcpu(vcpu, {
    ...saved,
    state: { ...state, rip: 0x1000, segments: state.segments.map(flat), ...changes },
  });
}

const until = (machine: Machine, kind: MachineEvent["kind"]): Promise<MachineEvent> =>
  new Promise((done) => {
    machine.onEvent((event) => {
      if (event.kind === kind) done(event);
    });
  });

async function runToHalt(machine: Machine): Promise<void> {
  const halted = until(machine, "halted");
  machine.start();
  await halted;
  await machine.pause();
}

/** The accelerators that can run here; the others' reasons are in acceleratorInfo(). */
const usable = acceleratorInfo()
  .filter((accelerator) => accelerator.usable)
  .map(({ name }) => name as MachineOptions["accelerator"]);

const gpr = (machine: Machine, index: number): number =>
  Number((machine.vcpu(0).state as { gpr: (number | string)[] }).gpr[index]);

/** All zero but these. */
const registers = (given: Readonly<Record<number, number>>): number[] =>
  Array.from({ length: 16 }, (_, index) => given[index] ?? 0);

// 16-bit code. MOV AL, imm8; OUT imm8, AL; IN AL, imm8; HLT (SDM Vol. 2).
const movAl = (value: number) => [0xb0, value];
const outAl = (port: number) => [0xe6, port];
const inAl = (port: number) => [0xe4, port];
const CLI = 0xfa;
const STI = 0xfb;
const HLT = 0xf4;
const LOOP_FOREVER = [0xeb, 0xfe];

describe("accelerators", () => {
  test("soft is always there, the others say why not", () => {
    const info = acceleratorInfo();
    expect(info.map((entry) => entry.name)).toEqual(["hvf", "kvm", "soft"]);
    expect(info.at(-1)).toMatchObject({ usable: true });
  });

  test("auto takes what is fastest and says why", () => {
    const machine = machineWith({ accelerator: "auto" });
    const { name, reason } = automaticAccelerator();
    expect(machine.accelerator).toMatchObject({ name, usable: true, reason });
    const [, hardware, software] =
      /kvm: ([\d.]+) ns per instruction, soft: ([\d.]+)/.exec(reason) ?? [];
    if (hardware === undefined) expect(reason).toMatch(/kvm: \S/);
    else expect(name).toBe(Number(hardware) < Number(software) ? "kvm" : "soft");
  });

  test("what is not there is refused with its reason", () => {
    for (const { name, usable, reason } of acceleratorInfo())
      if (!usable) expect(() => machineWith({ accelerator: name as "soft" })).toThrow(reason);
    expect(() => machineWith({ accelerator: "magic" as "soft" })).toThrow(/no accelerator/);
  });

  test("the host's CPU is refused where guests cannot see it", () => {
    expect(() => machineWith({ accelerator: "soft", cpuModel: "host" })).toThrow(
      expect.objectContaining({
        code: "CPU_MODEL_UNUSABLE",
        message: expect.stringContaining("accelerator soft ("),
      }),
    );
    if (!usable.includes("kvm")) return;
    const components = (cpuModel: "stable" | "host") =>
      Object.keys(machineWith({ accelerator: "kvm", cpuModel }).save());
    expect(components("host")).toContain("cpuid");
    expect(components("stable")).not.toContain("cpuid");
  });
});

describe.each(usable)("on %s", (accelerator) => {
  const BASE = 0x80;

  /** Reads and writes as the device saw them; what it answers is its count of accesses. */
  function recorded(machine: Machine): unknown[][] {
    const seen: unknown[][] = [];
    machine.bus.map(
      { name: "device", space: "pio", base: BASE, length: 4 },
      {
        read: (offset, size) => seen.push(["read", offset, size]),
        write(offset, size, value) {
          seen.push(["write", offset, size, value]);
        },
      },
    );
    return seen;
  }

  test("a guest's accesses reach a device in TypeScript, and its answers the guest", async () => {
    const machine = machineWith({ accelerator });
    expect(machine.accelerator.name).toBe(accelerator);
    const seen = recorded(machine);
    load(machine, [CLI, ...movAl(0x5a), ...outAl(BASE + 1), ...inAl(BASE + 2), HLT]);
    await runToHalt(machine);
    expect(seen).toEqual([
      ["write", 1, 1, 0x5a],
      ["read", 2, 1],
    ]);
    expect(gpr(machine, 0) & 0xff).toBe(2);
  });

  test.each(usable)("a VM paused here resumes on %s", async (other) => {
    const [from, to] = [machineWith({ accelerator }), machineWith({ accelerator: other })];
    load(from, [STI, ...LOOP_FOREVER], { gpr: Array.from({ length: 16 }, (_, i) => i * 0x1111) });
    from.start();
    await from.pause();
    const saved = from.save();
    to.memory.write(0x1000, Uint8Array.from([STI, ...LOOP_FOREVER]));
    to.restore(saved);
    expect(to.save()).toEqual(saved);
    to.start();
    await to.pause();
    expect([0, 5, 15].map((index) => gpr(to, index))).toEqual([0, 0x5555, 0xffff]);
    const { rip } = to.vcpu(0).state as { rip: number };
    expect([0x1000, 0x1001]).toContain(rip); // before or behind the STI
  });
});

describe("options", () => {
  test.each([
    { cpus: 0 },
    { cpus: 65 },
    { cpus: 1.5 },
    { memory: 0 },
    { memory: 4095 },
    { memory: 2 ** 60 },
    { memory: Number.NaN },
  ])("%o is refused", (options) => {
    expect(() => machineWith(options)).toThrow();
  });
});

describe("guest memory", () => {
  test("views are the guest's own bytes", () => {
    const { memory } = machineWith();
    const view = memory.view(0x1000, 4);
    view?.set([1, 2, 3, 4]);
    memory.written(0x1000, 4);
    const copy = new Uint8Array(4);
    expect(memory.read(0x1000, copy)).toBe(true);
    expect([...copy]).toEqual([1, 2, 3, 4]);
  });

  test("what is not RAM has no view", () => {
    const { memory } = machineWith();
    for (const [at, length] of [
      [16 * MIB, 1],
      [16 * MIB - 1, 2],
      [-1, 1],
      [0.5, 1],
      [2 ** 53, 1],
      [0, 2 ** 53],
    ] as const) {
      expect(memory.view(at, length), `${at} ${length}`).toBeUndefined();
    }
    expect(memory.write(16 * MIB - 1, new Uint8Array(2))).toBe(false);
    expect(() => memory.written(16 * MIB - 1, 2)).toThrow();
  });

  test("memory beyond 3 GiB lies at 4 GiB, across windows", () => {
    const { memory } = machineWith({ memory: 5 * 2 ** 30 });
    expect(memory.lowSize).toBe(3 * 2 ** 30);
    expect(memory.view(3 * 2 ** 30, 1)).toBeUndefined();
    const edge = 5 * 2 ** 30 - 2; // the last window but one ends at 5 GiB
    expect(memory.view(edge, 4)).toBeUndefined();
    expect(memory.write(edge, Uint8Array.of(5, 6, 7, 8))).toBe(true);
    expect([...(memory.view(edge + 2, 2) ?? [])]).toEqual([7, 8]);
    expect(memory.view(6 * 2 ** 30 - 1, 1)).toHaveLength(1);
    expect(memory.view(6 * 2 ** 30, 1)).toBeUndefined();
  });
});

describe("the bus", () => {
  test("a direct write and read reach the handler and come back", async () => {
    const machine = machineWith();
    const seen: unknown[] = [];
    machine.bus.map(
      { name: "device", space: "pio", base: 0x80, length: 4 },
      {
        read(offset, size) {
          seen.push(["read", offset, size]);
          return 0x1234;
        },
        write(offset, size, value) {
          seen.push(["write", offset, size, value]);
        },
      },
    );
    load(machine, [CLI, ...movAl(0x5a), ...outAl(0x81), ...inAl(0x82), HLT]);
    await runToHalt(machine);
    expect(seen).toEqual([
      ["write", 1, 1, 0x5a],
      ["read", 2, 1],
    ]);
    expect(gpr(machine, 0) & 0xff).toBe(0x34);
  });

  test("posted writes come in order, a shadow read sees what they published", async () => {
    const machine = machineWith();
    const text: number[] = [];
    const range: Range = machine.bus.map(
      {
        name: "device",
        space: "pio",
        base: 0x80,
        length: 2,
        ways: [
          { at: 1, length: 1, read: "shadow", write: "ignored" },
          { at: 0, length: 1, write: "posted" },
        ],
      },
      {
        read: () => range.shadow.getUint8(1),
        write(_offset, _size, value) {
          text.push(value);
          range.shadow.setUint8(1, text.length);
        },
      },
    );
    const bytes = [...Buffer.from("in order")];
    const writes = bytes.flatMap((byte) => [...movAl(byte), ...outAl(0x80)]);
    load(machine, [CLI, ...writes, ...inAl(0x81), HLT]);
    await runToHalt(machine);
    expect(text).toEqual(bytes);
    expect(gpr(machine, 0) & 0xff).toBe(bytes.length);
    expect(machine.statistics().bus["device.posted"]).toBe(bytes.length);
  });

  test("more posts than a ring holds all arrive", async () => {
    const machine = machineWith();
    let count = 0;
    machine.bus.map(
      {
        name: "device",
        space: "pio",
        base: 0x80,
        length: 1,
        ways: [{ at: 0, length: 1, write: "posted" }],
      },
      {
        read: () => 0,
        write() {
          count += 1;
        },
      },
    );
    // MOV CX, 20000; again: OUT 0x80, AL; LOOP again
    load(machine, [CLI, 0xb9, 0x20, 0x4e, ...outAl(0x80), 0xe2, 0xfc, HLT]);
    await runToHalt(machine);
    expect(count).toBe(20000);
  });

  test("a doorbell runs its own handler, after the posted write before it", async () => {
    const machine = machineWith();
    const seen: unknown[] = [];
    machine.bus.map(
      {
        name: "device",
        space: "pio",
        base: 0x80,
        length: 2,
        ways: [
          { at: 0, length: 1, write: "posted" },
          { at: 1, length: 1, write: "doorbell" },
        ],
      },
      {
        read: () => 0,
        write: (_offset, _size, value) => void seen.push(["write", value]),
        doorbell: (offset, value) => void seen.push(["doorbell", offset, value]),
      },
    );
    load(machine, [CLI, ...movAl(3), ...outAl(0x80), ...movAl(9), ...outAl(0x81), HLT]);
    await runToHalt(machine);
    expect(seen).toEqual([
      ["write", 3],
      ["doorbell", 1, 9],
    ]);
  });

  test.each(usable)(
    "a doorbell whose value says nothing loses none on %s, over pauses and moves",
    async (accelerator) => {
      const machine = machineWith({ accelerator });
      const TURNS = 20000;
      const seen = new Set<string>();
      let atLast = 0;
      const word = Buffer.alloc(2);
      const counted = () => machine.memory.read(0x2000, word) && word.readUInt16LE();
      const range = machine.bus.map(
        {
          name: "bell",
          space: "pio",
          base: 0x80,
          length: 2,
          ways: [{ at: 0, length: 2, write: "doorbell", rings: 7 }],
        },
        {
          read: () => 0,
          write: () => {},
          doorbell: (offset, value) => {
            seen.add(`${offset}: ${value}`);
            atLast = Number(counted());
          },
        },
      );
      // 1: INC word [0x2000]; OUT DX, AL; DEC CX; JNZ 1b; HLT: a bell of one byte of two
      const program = [CLI, 0xff, 0x06, 0x00, 0x20, 0xee, 0x49, 0x75, 0xf8, HLT];
      load(machine, program, { gpr: registers({ 1: TURNS, 2: 0x80 }) });
      machine.start();
      for (let port = 0x90; atLast < TURNS; port ^= 0x10) {
        await new Promise((done) => setTimeout(done, 1));
        await machine.pause();
        expect(Number(counted()) - atLast).toBeLessThanOrEqual(1); // counted, and not rung yet
        range.move(port);
        const saved = machine.vcpu(0);
        const state = saved.state as { gpr: (number | string)[] };
        const gpr = state.gpr.map((value, index) => (index === 2 ? port : value));
        machine.setVcpu(0, { ...saved, state: { ...state, gpr } });
        machine.resume();
      }
      await machine.pause();
      expect([...seen]).toEqual(["0: 7"]);
      expect(machine.statistics().bus).toMatchObject({ "bell.doorbell": TURNS });
    },
  );

  test("what nothing decodes reads as ones, and ends a strict VM", async () => {
    const lax = machineWith();
    load(lax, [CLI, ...inAl(0xe5), HLT]);
    await runToHalt(lax);
    expect(gpr(lax, 0) & 0xff).toBe(0xff);

    const strict = machineWith({ strictIo: true });
    load(strict, [CLI, ...inAl(0xe5), HLT]);
    const ended = until(strict, "unhandled-io");
    strict.start();
    expect(await ended).toMatchObject({ access: expect.stringContaining("port 0xe5") });
    await strict.pause();
  });

  test("a handler that throws is reported and leaves no vCPU waiting", async () => {
    const machine = machineWith();
    const before = process.listeners("uncaughtException");
    process.removeAllListeners("uncaughtException");
    const reported = new Promise<unknown>((done) => process.once("uncaughtException", done));
    try {
      machine.bus.map(
        { name: "broken", space: "pio", base: 0x80, length: 1 },
        {
          read() {
            throw new Error("a mistake in a device");
          },
          write() {},
        },
      );
      load(machine, [CLI, ...inAl(0x80), HLT]);
      await runToHalt(machine);
      expect(gpr(machine, 0) & 0xff).toBe(0xff);
      expect(await reported).toMatchObject({ message: "a mistake in a device" });
    } finally {
      for (const listener of before) process.on("uncaughtException", listener);
    }
  });

  test("a range moved by its own write answers at its new place at once", async () => {
    const machine = machineWith();
    const range = machine.bus.map(
      { name: "device", space: "pio", base: 0x68, length: 1 },
      { read: () => 0x42, write: (_offset, _size, value) => range.move(value) },
    );
    // OUT 0x68, 0xe8; IN AL, 0x68 → AH; IN AL, 0xe8
    load(machine, [
      CLI,
      ...movAl(0xe8),
      ...outAl(0x68),
      ...inAl(0x68),
      0x88,
      0xc4,
      ...inAl(0xe8),
      HLT,
    ]);
    await runToHalt(machine);
    expect(gpr(machine, 0) & 0xffff).toBe(0xff42);
  });

  test("ranges that would overlap throw a RangeError", () => {
    const machine = machineWith();
    const handler = { read: () => 0, write() {} };
    const map = (base: number, length: number) =>
      machine.bus.map({ name: "device", space: "pio", base, length }, handler);
    expect(() => map(0x21, 1)).toThrow(RangeError); // the 8259 is there
    const range = map(0x300, 8);
    expect(() => map(0x307, 8)).toThrow(RangeError);
    expect(() => map(0xffff, 2)).toThrow(RangeError);
    expect(() => map(0x400, 0)).toThrow(RangeError);
    range.remove();
    map(0x307, 8);
    expect(() => range.move(0x500)).toThrow(RangeError);
  });

  test("ways that overlap or clear without a line are refused", () => {
    const machine = machineWith();
    const handler = { read: () => 0, write() {} };
    const spec = { name: "device", space: "mmio", base: 0xd0000000, length: 16 } as const;
    const map = (ways: object[]) =>
      machine.bus.map({ ...spec, ways } as Parameters<typeof machine.bus.map>[0], handler);
    expect(() =>
      map([
        { at: 0, length: 4 },
        { at: 3, length: 4 },
      ]),
    ).toThrow(/overlap/);
    expect(() => map([{ at: 12, length: 8 }])).toThrow();
    const foreign: InterruptLine = { set() {}, pulse() {} };
    const clears = { mask: 1, line: foreign };
    expect(() => map([{ at: 0, length: 4, write: "posted", clears }])).toThrow(TypeError);
  });
});

describe("interrupts and time", () => {
  // The master 8259: vectors from 0x20 on, one chip left unmasked at IRQ 4.
  const initPic = [
    ...movAl(0x11),
    ...outAl(0x20),
    ...movAl(0x20),
    ...outAl(0x21),
    ...movAl(0x04),
    ...outAl(0x21),
    ...movAl(0x01),
    ...outAl(0x21),
    ...movAl(0xef),
    ...outAl(0x21),
  ];

  test("firmware's choice of level-triggered IRQs shows in the ELCR, and goes with a reset", async () => {
    const machine = machineWith();
    for (const irq of [0, 9, 10]) machine.interrupts.trigger(irq, true);
    // MOV DX, 0x4d0; IN AX, DX
    load(machine, [CLI, 0xba, 0xd0, 0x04, 0xed, HLT]);
    await runToHalt(machine);
    expect(gpr(machine, 0) & 0xffff).toBe(0x0600); // never IRQ 0
    machine.interrupts.trigger(10, false);
    const elcr = () => machine.save().pic?.state as { chips: { elcr: number }[] };
    expect(elcr().chips.map((chip) => chip.elcr)).toEqual([0, 2]);
    machine.reset();
    expect(elcr().chips.map((chip) => chip.elcr)).toEqual([0, 0]);
    expect(() => machine.interrupts.trigger(16, true)).toThrow(/irq/);
  });

  test("a line raised by a handler interrupts the guest", async () => {
    const machine = machineWith();
    const line = machine.interrupts.isa(4);
    machine.bus.map(
      { name: "device", space: "pio", base: 0x68, length: 1 },
      { read: () => 0, write: (_offset, _size, value) => line.set(value !== 0) },
    );
    // The handler at 0x2000 loads BL, then CLI; HLT.
    machine.memory.write(0x2000, Uint8Array.of(0xb3, 0x77, CLI, HLT));
    machine.memory.write(0x24 * 4, Uint8Array.of(0x00, 0x20, 0x00, 0x00));
    const raise = [...movAl(1), ...outAl(0x68)];
    const gprs = Array.from({ length: 16 }, (_, i) => (i === 4 ? 0x8000 : 0));
    load(machine, [CLI, ...initPic, ...raise, STI, HLT, ...LOOP_FOREVER], { gpr: gprs });
    await runToHalt(machine);
    expect(gpr(machine, 3)).toBe(0x77);
  });

  test("guest time stands while paused and goes on after; a timer calls back", async () => {
    const machine = machineWith();
    load(machine, LOOP_FOREVER);
    expect(machine.clock.now()).toBe(0n);
    const fired = new Promise<bigint>((done) => {
      machine.clock.timer(() => done(machine.clock.now())).arm(20_000_000n);
    });
    let cancelled = false;
    const other = machine.clock.timer(() => {
      cancelled = true;
    });
    other.arm(10_000_000n);
    other.cancel();
    machine.start();
    expect(await fired).toBeGreaterThanOrEqual(20_000_000n);
    expect(cancelled).toBe(false);
    await machine.pause();
    const stood = machine.clock.now();
    await new Promise((done) => setTimeout(done, 20));
    expect(machine.clock.now()).toBe(stood);
    machine.resume();
    await machine.pause();
    expect(machine.clock.now()).toBeGreaterThan(stood);
  });
});

describe("lifecycle and state", () => {
  test("illegal calls throw and change nothing", async () => {
    const machine = machineWith();
    expect(() => machine.resume()).toThrow(/not been started/);
    load(machine, LOOP_FOREVER);
    machine.start();
    expect(() => machine.start()).toThrow();
    expect(() => machine.reset()).toThrow();
    expect(() => machine.vcpu(0)).toThrow();
    expect(() => machine.save()).toThrow();
    await Promise.all([machine.pause(), machine.pause()]);
    await machine.pause();
    expect(() => machine.vcpu(1)).toThrow();
    expect(() => machine.setVcpu(0, { version: machine.vcpu(0).version, state: {} })).toThrow(
      /cpu\./,
    );
    machine.resume();
    expect(() => machine.resume()).toThrow(/running/);
    await machine.destroy();
    await machine.destroy();
    await expect(machine.pause()).rejects.toThrow();
    expect(() => machine.resume()).toThrow();
    expect(() => machine.statistics()).toThrow();
  });

  test("a reset brings power-on back, under the same memory", async () => {
    const machine = machineWith();
    const fresh = machine.vcpu(0);
    load(machine, LOOP_FOREVER);
    machine.start();
    await machine.pause();
    machine.reset();
    expect(machine.vcpu(0)).toEqual(fresh);
    const copy = new Uint8Array(2);
    machine.memory.read(0x1000, copy);
    expect([...copy]).toEqual(LOOP_FOREVER);
  });

  test("a triple fault is told", async () => {
    const machine = machineWith();
    // An IDT of no length: the first exception cannot be delivered. UD2.
    load(machine, [CLI, 0x0f, 0x0b], { idtr: { base: 0, limit: 0 } });
    const fault = until(machine, "triple-fault");
    machine.start();
    expect(await fault).toEqual({ kind: "triple-fault", vcpu: 0 });
    await machine.pause();
    machine.reset();
    machine.resume();
  });

  test("state goes into another machine and on from there", async () => {
    const first = machineWith({ cpus: 2 });
    // again: INC CX; JMP again
    load(first, [0x41, 0xeb, 0xfd]);
    first.start();
    await new Promise((done) => setTimeout(done, 20));
    await first.pause();
    const saved = JSON.parse(JSON.stringify(first.save())) as ReturnType<Machine["save"]>;
    const memory = new Uint8Array(0x3000);
    first.memory.read(0, memory);

    const second = machineWith({ cpus: 2 });
    second.restore(saved);
    second.memory.write(0, memory);
    expect(second.save()).toEqual(saved);
    second.start();
    await second.pause();
    while (isDeepStrictEqual(second.vcpu(0), saved.cpu0)) {
      second.resume(); // a busy host may not have run it yet
      await new Promise((done) => setTimeout(done, 20));
      await second.pause();
    }

    const before = second.save();
    const { lapic1: _gone, ...fewer } = saved;
    expect(() => second.restore(fewer)).toThrow(/lapic1/);
    expect(() => second.restore({ ...saved, pic: { version: 9, state: {} } })).toThrow(/pic/);
    expect(() => second.restore({ ...saved, strange: { version: 1, state: {} } })).toThrow(
      /strange/,
    );
    expect(second.save()).toEqual(before);
  });

  test("destroy ends a guest that waits for a handler of a busy thread", async () => {
    const machine = machineWith();
    machine.bus.map(
      { name: "device", space: "pio", base: 0x80, length: 1 },
      {
        read() {
          void machine.destroy();
          return 0;
        },
        write() {},
      },
    );
    load(machine, [CLI, ...inAl(0x80), ...inAl(0x80), ...LOOP_FOREVER]);
    machine.start();
    await new Promise((done) => setTimeout(done, 20));
    await machine.destroy();
  });
});
