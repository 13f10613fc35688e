import { describe, expect, it } from "vitest";
import { checkDevice } from "../device.js";
import { FakeHost } from "../fakes.js";
import type { SerialBackend } from "../serial/backend.js";
import { COM1, COM2, Uart } from "./adapter.js";

/** A backend that a test fills and reads; `ready` false makes it ask to hold back. */
class Terminal implements SerialBackend {
  readonly lost = 0;
  readonly writes: string[] = [];
  ready = true;
  accepting = true;
  closed = false;
  type: (bytes: Uint8Array) => void = () => {};
  drain: () => void = () => {};
  write(bytes: Uint8Array): boolean {
    this.writes.push(Buffer.from(bytes).toString("latin1"));
    return this.ready;
  }
  onData(listener: (bytes: Uint8Array) => void): void {
    this.type = listener;
  }
  onDrain(listener: () => void): void {
    this.drain = listener;
  }
  accept(on: boolean): void {
    this.accepting = on;
  }
  close(): void {
    this.closed = true;
  }
}

function make() {
  const host = new FakeHost();
  const terminal = new Terminal();
  const tasks: (() => void)[] = [];
  const uart = new Uart(host, { ...COM1, backend: terminal, later: (task) => tasks.push(task) });
  const batchEnd = () => {
    for (const task of tasks.splice(0)) task();
  };
  const type = (text: string) => terminal.type(Buffer.from(text, "latin1"));
  const irq = host.interrupts.wire("isa", 4);
  return { host, bus: host.bus, terminal, uart, batchEnd, type, irq };
}

// PC16550D data sheet, by hand.
const [DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR] = [
  0x3f8, 0x3f9, 0x3fa, 0x3fb, 0x3fc, 0x3fd, 0x3fe, 0x3ff,
] as const;
const FCR = IIR;
const OUT2 = 0x08;
const LOOP = 0x10;

describe("registers", () => {
  it("are as the data sheet has them after master reset", () => {
    const { bus } = make();
    expect([IER, IIR, LCR, MCR, LSR].map((port) => bus.in(port))).toEqual([0, 0x01, 0, 0, 0x60]);
    expect(bus.in(MSR)).toBe(0xb0); // the cable: DCD, DSR, CTS
  });

  it("keep only the bits that exist", () => {
    const { bus } = make();
    for (const port of [IER, LCR, MCR, SCR]) bus.out(port, 0x6f);
    expect([IER, LCR, SCR].map((port) => bus.in(port))).toEqual([0x0f, 0x6f, 0x6f]);
    expect(bus.in(MCR)).toBe(0x0f);
  });

  it("show the divisor behind DLAB, and nothing of it before", () => {
    const { bus, terminal, batchEnd } = make();
    bus.out(LCR, 0x83);
    bus.out(DATA, 0x01);
    bus.out(IER, 0x02);
    expect([bus.in(DATA), bus.in(IER)]).toEqual([0x01, 0x02]);
    bus.out(LCR, 0x03);
    expect(bus.in(IER)).toBe(0);
    batchEnd();
    expect(terminal.writes).toEqual([]);
  });

  it("ignore writes to LSR and MSR", () => {
    const { bus } = make();
    bus.out(LSR, 0xff);
    bus.out(MSR, 0xff);
    expect([bus.in(LSR), bus.in(MSR)]).toEqual([0x60, 0xb0]);
  });

  it("are met by wider accesses byte by byte", () => {
    const { bus } = make();
    bus.out(SCR - 1, 0x5aff, 2);
    expect(bus.in(SCR)).toBe(0x5a);
    expect(bus.in(LCR, 2)).toBe(0);
  });
});

describe("output", () => {
  it("of one batch is one write of the backend", () => {
    const { bus, terminal, batchEnd } = make();
    for (const char of "hello, world") bus.out(DATA, char.charCodeAt(0));
    expect(terminal.writes).toEqual([]);
    batchEnd();
    expect(terminal.writes).toEqual(["hello, world"]);
  });

  it("costs the guest no wait: THR is posted and LSR published", () => {
    const { host, bus } = make();
    bus.eager = false;
    for (let i = 0; i < 1000; i++) {
      expect(bus.in(LSR) & 0x20).toBe(0x20);
      bus.out(DATA, 0x2e);
    }
    expect(host.bus.directs).toBe(0);
  });

  it("of a large batch is handed over in pieces of 4096, in order", () => {
    const { bus, terminal, batchEnd } = make();
    const text = Array.from({ length: 10_000 }, (_, i) => String.fromCharCode(33 + (i % 90))).join(
      "",
    );
    for (const char of text) bus.out(DATA, char.charCodeAt(0));
    batchEnd();
    expect(terminal.writes.map((piece) => piece.length)).toEqual([4096, 4096, 1808]);
    expect(terminal.writes.join("")).toBe(text);
  });

  it("raises one THRE interrupt a batch, which reading IIR takes back", () => {
    const { bus, batchEnd, irq } = make();
    bus.out(MCR, OUT2);
    bus.out(IER, 0x02);
    expect(irq.level).toBe(true); // enabling it while THRE is set raises it
    expect([bus.in(IIR), irq.level]).toEqual([0x02, false]);
    bus.out(DATA, 0x41);
    bus.out(DATA, 0x42);
    expect(irq.level).toBe(false);
    batchEnd();
    expect([irq.level, irq.edges]).toEqual([true, 2]);
  });

  it("is held back by a backend that asks for it, until it drains", () => {
    const { bus, terminal, batchEnd } = make();
    terminal.ready = false;
    bus.out(DATA, 0x41);
    batchEnd();
    expect(bus.in(LSR) & 0x60).toBe(0);
    terminal.ready = true;
    terminal.drain();
    expect(bus.in(LSR) & 0x60).toBe(0x60);
  });

  it("is not held back for ever by one that never drains", () => {
    const { host, bus, terminal, batchEnd } = make();
    terminal.ready = false;
    bus.out(DATA, 0x41);
    batchEnd();
    host.clock.advance(10_000_000_000n);
    expect(bus.in(LSR) & 0x60).toBe(0x60);
    bus.out(DATA, 0x42);
    batchEnd();
    expect(bus.in(LSR) & 0x60).toBe(0x60);
    expect(terminal.writes.join("")).toBe("AB");
  });
});

describe("input", () => {
  it("shows in LSR and is read from RBR, in order", () => {
    const { bus, type } = make();
    bus.out(FCR, 0x01);
    type("abc");
    expect(bus.in(LSR)).toBe(0x61);
    expect([bus.in(DATA), bus.in(DATA), bus.in(DATA)]).toEqual([0x61, 0x62, 0x63]);
    expect(bus.in(LSR)).toBe(0x60);
  });

  it("waits on the host while the receiver is full: nothing overruns", () => {
    const { bus, type, terminal } = make();
    const text = "x".repeat(5000);
    type(text);
    expect(terminal.accepting).toBe(false);
    let read = 0;
    for (; bus.in(LSR) & 1; read++) bus.in(DATA);
    expect([read, terminal.accepting, bus.in(LSR)]).toEqual([5000, true, 0x60]);
  });

  it.each([
    [0x01, 1],
    [0x41, 4],
    [0x81, 8],
    [0xc1, 14],
  ])("FCR %i interrupts at %i bytes", (fcr, level) => {
    const { bus, type, irq } = make();
    bus.out(FCR, fcr);
    bus.out(MCR, OUT2);
    bus.out(IER, 0x01);
    type("y".repeat(level - 1));
    expect(irq.level).toBe(false);
    type("y");
    expect([irq.level, bus.in(IIR)]).toEqual([true, 0xc4]);
    bus.in(DATA);
    expect([irq.level, bus.in(IIR)]).toEqual([false, 0xc1]);
  });

  it("below the trigger interrupts after four character times", () => {
    const { host, bus, type, irq } = make();
    bus.out(LCR, 0x83);
    bus.out(DATA, 1); // 115200 baud
    bus.out(LCR, 0x03); // 8N1: ten bits a character
    bus.out(FCR, 0xc1);
    bus.out(MCR, OUT2);
    bus.out(IER, 0x01);
    type("ab");
    host.clock.advance(347_000n); // 4 * 10 bits / 115200 = 347.2 us
    expect(irq.level).toBe(false);
    host.clock.advance(1_000n);
    expect([irq.level, bus.in(IIR)]).toEqual([true, 0xcc]);
    bus.in(DATA);
    expect([irq.level, bus.in(IIR)]).toEqual([false, 0xc1]);
    host.clock.advance(348_000n);
    expect(bus.in(IIR)).toBe(0xcc);
    bus.in(DATA);
    host.clock.advance(348_000n);
    expect(bus.in(IIR)).toBe(0xc1);
  });

  it("is cleared by FCR bit 1, and by turning the FIFOs on or off", () => {
    const { bus, type } = make();
    bus.out(FCR, 0x01);
    type("ab");
    bus.out(FCR, 0x03);
    expect(bus.in(LSR)).toBe(0x60);
    type("c");
    bus.out(FCR, 0x00);
    expect([bus.in(LSR), bus.in(IIR)]).toEqual([0x60, 0x01]);
  });

  it("can be a break, which LSR tells once", () => {
    const { bus, uart, irq } = make();
    bus.out(MCR, OUT2);
    bus.out(IER, 0x05);
    uart.sendBreak();
    expect([irq.level, bus.in(IIR)]).toEqual([true, 0x06]);
    expect([bus.in(LSR), bus.in(LSR)]).toEqual([0x71, 0x61]);
    expect([bus.in(IIR), bus.in(DATA), bus.in(LSR)]).toEqual([0x04, 0, 0x60]);
  });
});

describe("loop-back", () => {
  it("wires the modem outputs to the inputs", () => {
    const { bus } = make();
    bus.out(MCR, LOOP);
    bus.in(MSR);
    for (const [out, input] of [
      [0x01, 0x20],
      [0x02, 0x10],
      [0x04, 0x40],
      [0x08, 0x80],
    ] as const) {
      bus.out(MCR, LOOP | out);
      expect(bus.in(MSR) & 0xf0).toBe(input);
    }
  });

  it("sets the deltas, RI's only when it ends, and reading clears them", () => {
    const { bus } = make();
    bus.out(MCR, LOOP);
    bus.in(MSR);
    bus.out(MCR, LOOP | 0x0f);
    expect(bus.in(MSR)).toBe(0xfb);
    expect(bus.in(MSR)).toBe(0xf0);
    bus.out(MCR, LOOP);
    expect(bus.in(MSR)).toBe(0x0f);
  });

  it("sends what is written to the receiver and not to the host", () => {
    const { bus, terminal, batchEnd } = make();
    bus.eager = false;
    bus.out(MCR, LOOP);
    bus.out(DATA, 0x5a);
    expect(bus.in(LSR)).toBe(0x61);
    expect(bus.in(DATA)).toBe(0x5a);
    batchEnd();
    expect(terminal.writes).toEqual([]);
  });

  it("shows the FIFO's depth of 16 and then an overrun, which LSR tells once", () => {
    const { bus } = make();
    bus.out(FCR, 0x01);
    bus.out(MCR, LOOP);
    for (let i = 0; i < 17; i++) bus.out(DATA, i);
    bus.out(MCR, 0); // the error outlasts the loop
    expect([bus.in(LSR), bus.in(LSR)]).toEqual([0x63, 0x61]);
    expect(Array.from({ length: 16 }, () => bus.in(DATA))).toEqual([...Array(16).keys()]);
    expect(bus.in(LSR)).toBe(0x60);
  });

  it("without FIFOs keeps the newest byte", () => {
    const { bus } = make();
    bus.out(MCR, LOOP);
    bus.out(DATA, 1);
    bus.out(DATA, 2);
    expect([bus.in(LSR), bus.in(DATA)]).toEqual([0x63, 2]);
  });

  it("keeps the host's input for later", () => {
    const { bus, type } = make();
    bus.out(MCR, LOOP);
    type("q");
    expect(bus.in(LSR)).toBe(0x60);
    bus.out(MCR, 0);
    expect([bus.in(LSR), bus.in(DATA)]).toEqual([0x61, 0x71]);
  });
});

describe("interrupts", () => {
  it("reach IRQ 4 only while OUT2 is set", () => {
    const { bus, type, irq } = make();
    bus.out(IER, 0x01);
    type("a");
    expect([irq.level, bus.in(IIR)]).toEqual([false, 0x04]);
    bus.out(MCR, OUT2);
    expect(irq.level).toBe(true);
  });

  it("come by priority: line status, data, transmitter, modem", () => {
    const { bus } = make();
    bus.out(MCR, LOOP);
    bus.in(MSR);
    bus.out(IER, 0x0f);
    bus.out(DATA, 1);
    bus.out(DATA, 2);
    bus.out(MCR, LOOP | 0x02);
    expect(bus.in(IIR)).toBe(0x06);
    bus.in(LSR);
    expect(bus.in(IIR)).toBe(0x04);
    bus.in(DATA);
    expect(bus.in(IIR)).toBe(0x02);
    expect(bus.in(IIR)).toBe(0x00);
    bus.in(MSR);
    expect(bus.in(IIR)).toBe(0x01);
  });
});

describe("state", () => {
  it("goes on where it was, time-out and waiting input included", () => {
    const one = make();
    one.bus.out(FCR, 0xc1);
    one.bus.out(MCR, OUT2);
    one.bus.out(IER, 0x01);
    one.type("0123456789abcdefXYZ");
    one.bus.in(DATA);
    const two = make();
    two.uart.restore(JSON.parse(JSON.stringify(one.uart.save())));
    expect([two.bus.in(LSR), two.bus.in(IIR), two.irq.level]).toEqual([0x61, 0xc4, true]);
    const rest = Array.from({ length: 18 }, () => String.fromCharCode(two.bus.in(DATA)));
    expect(rest.join("")).toBe("123456789abcdefXYZ");
  });

  it("keeps a running time-out", () => {
    const one = make();
    one.bus.out(FCR, 0xc1);
    one.bus.out(IER, 0x01);
    one.type("a");
    const two = make();
    two.uart.restore(one.uart.save());
    two.host.clock.advance(100_000_000n);
    expect(two.bus.in(IIR)).toBe(0xcc);
  });

  it("survives save, restore, save", () => checkDevice(make().uart));

  it("is refused whole, with device and field, where it does not fit", () => {
    const { uart, bus } = make();
    bus.out(SCR, 0x77);
    const saved = uart.save() as { chip: object };
    const wrong = { ...saved, chip: { ...saved.chip, ier: 256 } };
    expect(() => uart.restore(wrong)).toThrow(/^com1\.chip\.ier: an integer/);
    expect(() => uart.restore(null)).toThrow(/^com1: an object/);
    expect(() => uart.restore({ ...saved, more: 1 })).toThrow(/^com1\.more: no such field/);
    expect(bus.in(SCR)).toBe(0x77);
  });

  it("is power-on's after reset", () => {
    const { bus, uart, irq } = make();
    bus.out(MCR, OUT2);
    bus.out(IER, 0x02);
    uart.reset();
    expect([bus.in(IER), bus.in(MCR), bus.in(LSR), irq.level]).toEqual([0, 0, 0x60, false]);
  });
});

it("COM2 lies at 0x2F8 on IRQ 3", () => {
  const host = new FakeHost();
  const backend = new Terminal();
  const uart = new Uart(host, { ...COM2, backend, later: () => {} });
  host.bus.out(0x2fc, OUT2);
  host.bus.out(0x2f9, 0x02);
  expect(host.interrupts.wire("isa", 3).level).toBe(true);
  uart.dispose();
  expect([backend.closed, host.bus.in(0x2fd)]).toEqual([true, 0xff]);
});
