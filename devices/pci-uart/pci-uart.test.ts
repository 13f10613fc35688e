import { afterEach, describe, expect, it } from "vitest";
import { createMachine } from "../../native/index.js";
import type { DeviceHost, Machine } from "../../native/types.js";
import { checkDevice } from "../device.js";
import { FakeHost } from "../fakes.js";
import { PciBus } from "../pci/bus.js";
import { type SerialBackend, SerialListeners } from "../serial/backend.js";
import { StateError } from "../state.js";
import { PciUart } from "./model.js";

class Terminal implements SerialBackend {
  readonly lost = 0;
  readonly listeners = new SerialListeners();
  output = "";
  write(bytes: Uint8Array): boolean {
    this.output += Buffer.from(bytes).toString("latin1");
    return true;
  }
  onData(listener: (bytes: Uint8Array) => void): void {
    this.listeners.data = listener;
  }
  onDrain(): void {}
  accept(): void {}
  close(): void {}
  type(text: string): void {
    this.listeners.data(Buffer.from(text, "latin1"));
  }
}

const SLOT = 3;
let machine: Machine | undefined;
afterEach(async () => {
  await machine?.destroy();
  machine = undefined;
});

function plug<H extends DeviceHost>(host: H) {
  const terminal = new Terminal();
  const pci = new PciBus(host);
  const uart = new PciUart(host, { name: "uart1", backend: terminal });
  pci.add({ bus: 0, slot: SLOT, fn: 0 }, uart.pciFunction);
  return { host, terminal, pci, uart };
}

function make() {
  // The fake's bus, which a test drives, with the core's chip behind it.
  machine ??= createMachine({ cpus: 1, memory: 16 * 2 ** 20, accelerator: "soft" });
  const made = plug(Object.assign(new FakeHost(), { serial: machine.serial }));
  const { bus, interrupts } = made.host;
  const config = (at: number, size: number): number => {
    bus.out(0xcf8, 0x80000000 + SLOT * 0x800 + (at & 0xfc), 4);
    return bus.in(0xcfc + (at & 3), size);
  };
  // GSI 16 + ((slot + pin) & 7)
  return { ...made, bus, config, wire: interrupts.wire("ioapic", 20), base: config(0x10, 2) & ~3 };
}

describe("a UART on PCI", () => {
  it("is the card that drivers know", () => {
    const { config } = make();
    expect([config(0, 2), config(2, 2)]).toEqual([0x131f, 0x2000]);
    expect(config(8, 4) >>> 8).toBe(0x070002); // serial, 16550
    expect(config(0x10, 4) & 3).toBe(1); // I/O
    expect(config(0x3d, 1)).toBe(1); // INTA
  });

  it("is a 16550 of eight ports behind BAR 0, wherever that lies", () => {
    const { bus, base, terminal, uart } = make();
    expect(bus.in(base + 5)).toBe(0x60);
    bus.out(0xcf8, 0x80000000 + SLOT * 0x800 + 0x10, 4);
    bus.out(0xcfc, 0xffffffff, 4);
    expect(bus.in(0xcfc, 4)).toBe(0x0000fff9);
    bus.out(0xcfc, 0x3001, 4);
    for (const char of "moved") bus.out(0x3000, char.charCodeAt(0));
    uart.flush();
    expect(terminal.output).toBe("moved");
    expect([bus.in(0x3005), bus.in(base + 5)]).toEqual([0x60, 0xff]);
  });

  it("interrupts by its pin until the byte is read", () => {
    const { bus, base, terminal, wire, config } = make();
    bus.out(base + 4, 0x08); // OUT2
    bus.out(base + 1, 0x01);
    terminal.type("x");
    expect([wire.level, config(6, 2) & 8]).toEqual([true, 8]);
    expect([bus.in(base + 2) & 0x0f, bus.in(base)]).toEqual([0x04, 0x78]);
    expect([wire.level, config(6, 2) & 8]).toEqual([false, 0]);
  });

  it("goes on from its saved state, pin and all, and back to power-on", () => {
    const { uart, bus, base, terminal } = make();
    checkDevice(uart);
    bus.out(base + 4, 0x08);
    bus.out(base + 1, 0x01);
    terminal.type("yz");
    const saved = JSON.parse(JSON.stringify(uart.save()));
    const other = make();
    other.uart.restore(saved);
    expect(other.wire.level).toBe(true);
    expect(other.bus.in(base)).toBe(0x79);
    other.uart.reset();
    expect([other.wire.level, other.bus.in(base + 1), other.bus.in(base + 5)]).toEqual([
      false,
      0,
      0x60,
    ]);
    const before = JSON.stringify(other.uart.save());
    expect(() => other.uart.restore({ ...saved, function: {} })).toThrow(StateError);
    expect(() => other.uart.restore({ ...saved, port: {} })).toThrow(StateError);
    expect(JSON.stringify(other.uart.save())).toBe(before);
  });
});

describe("a guest that knows only ports", () => {
  // 16-bit code (SDM Vol. 2): MOV AL, imm8; OUT imm8, AL; MOV DX, imm16; OUT DX, AL or EAX.
  const word = (value: number) => [value & 0xff, value >> 8];
  const outIsa = (port: number, value: number) => [0xb0, value, 0xe6, port];
  const out = (port: number, value: number) => [0xba, ...word(port), 0xb0, value, 0xee];
  const outDword = (port: number, value: number) => {
    const bytes = [0, 8, 16, 24].map((shift) => (value >>> shift) & 0xff);
    return [0xba, ...word(port), 0x66, 0xb8, ...bytes, 0x66, 0xef];
  };
  const PROGRAM = [
    0xfa, // CLI
    ...outDword(0xcf8, 0x80000000 + SLOT * 0x800 + 0x10),
    ...outDword(0xcfc, 0x3001), // BAR 0
    ...[0x11, 0x20, 0x04, 0x01].flatMap((icw, index) => outIsa(index === 0 ? 0x20 : 0x21, icw)),
    ...[0x11, 0x28, 0x02, 0x01].flatMap((icw, index) => outIsa(index === 0 ? 0xa0 : 0xa1, icw)),
    ...outIsa(0x21, 0xfb), // the cascade alone
    ...outIsa(0xa1, 0xfb), // IRQ 10: where firmware routes the pin of this slot
    ...out(0x3004, 0x08), // OUT2
    ...out(0x3001, 0x02), // an interrupt for each empty transmitter
    ...[0xfb, 0xf4, 0xeb, 0xfd], // STI; HLT, again and again
  ];
  const HANDLER = [
    ...[0xba, ...word(0x3002), 0xec], // IN AL, DX: reading IIR ends the interrupt
    ...[0xac, 0x84, 0xc0, 0x74, 0x09], // LODSB; TEST AL, AL; JZ to the end
    ...[0xba, ...word(0x3000), 0xee], // OUT DX, AL
    ...[0xb0, 0x20, 0xe6, 0xa0, 0xe6, 0x20, 0xcf], // EOI to both; IRET
    ...[0xfa, 0xf4], // CLI; HLT
  ];
  // What JZ jumps over, less the 2 bytes counted twice: OUT's 4 and EOI's 7.
  HANDLER[8] = 4 + 7;

  it("prints a byte for each level-triggered interrupt", async () => {
    machine = createMachine({ cpus: 1, memory: 16 * 2 ** 20, accelerator: "soft" });
    const { terminal, uart } = plug(machine);
    machine.memory.write(0x1000, Uint8Array.from(PROGRAM));
    machine.memory.write(0x2000, Uint8Array.from(HANDLER));
    machine.memory.write(0x2a * 4, Uint8Array.of(0x00, 0x20, 0x00, 0x00));
    machine.memory.write(0x4000, Buffer.from("by interrupt\0"));
    const saved = machine.vcpu(0);
    const state = saved.state as { segments: object[] };
    const flat = state.segments.map((segment) => ({ ...segment, selector: 0, base: 0 }));
    const gpr = Array.from({ length: 16 }, (_, i) => (i === 4 ? 0x8000 : i === 6 ? 0x4000 : 0));
    machine.setVcpu(0, { ...saved, state: { ...state, segments: flat, rip: 0x1000, gpr } });
    const halted = new Promise((done) => machine?.onEvent(done));
    machine.start();
    expect(await halted).toEqual({ kind: "halted" });
    await machine.pause();
    uart.flush();
    expect(terminal.output).toBe("by interrupt");
  });
});
