// The host's end of a serial chip, with the core's own chip, whose registers native/core/serial/
// uart_test.cc tests. No vCPU runs: a test meets the registers as a PCI function's guest would.
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createMachine } from "../../native/index.js";
import type { Machine, SerialWiring } from "../../native/types.js";
import { checkDevice } from "../device.js";
import { FakeClock } from "../fakes.js";
import type { SerialBackend } from "../serial/backend.js";
import { StateError } from "../state.js";
import { COM1, COM2, Uart } from "./adapter.js";
import { UartPort } from "./port.js";

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

// PC16550D data sheet, table II, by hand.
const [DATA, LSR, SCR] = [0, 5, 7] as const;

let machine: Machine;
beforeEach(() => {
  machine = createMachine({ cpus: 1, memory: 16 * 2 ** 20, accelerator: "soft" });
});
afterEach(() => machine.destroy());

/** Everything that other threads have for JavaScript by now has been delivered. */
const until = async (done: () => boolean): Promise<void> => {
  for (let left = 6000; left > 0 && !done(); left--)
    await new Promise((resolve) => setTimeout(resolve, 10));
};

function make(wiring?: SerialWiring) {
  const terminal = new Terminal();
  const tasks: (() => void)[] = [];
  const clock = new FakeClock();
  const host = { clock, serial: machine.serial };
  const port = new UartPort(host, { backend: terminal, later: (task) => tasks.push(task) }, wiring);
  const print = (text: string) => {
    for (const char of text) port.chip.write(DATA, char.charCodeAt(0));
  };
  const read = (count: number) =>
    Array.from({ length: count }, () => String.fromCharCode(port.chip.read(DATA))).join("");
  const later = () => {
    for (const task of tasks.splice(0)) task();
  };
  const type = (text: string) => terminal.type(Buffer.from(text, "latin1"));
  return { port, chip: port.chip, terminal, clock, print, read, later, tasks, type };
}

describe("output", () => {
  it("is looked at when it begins, and gathered while it goes on", async () => {
    const { terminal, print, later, tasks } = make();
    print("he");
    await until(() => terminal.writes.length > 0);
    print("llo, ");
    print("world");
    expect(terminal.writes).toEqual(["he"]);
    later();
    expect(terminal.writes).toEqual(["he", "llo, world"]);
    later(); // nothing more: from now on the chip calls again
    expect(tasks).toEqual([]);
    print("!");
    await until(() => terminal.writes.length > 2);
    expect(terminal.writes).toEqual(["he", "llo, world", "!"]);
  });

  it("is handed over by flush(), whole and in order", () => {
    const { port, terminal, print } = make();
    const text = Array.from({ length: 10_000 }, (_, i) => String.fromCharCode(33 + (i % 90)));
    print(text.join(""));
    port.flush();
    expect(terminal.writes.join("")).toBe(text.join(""));
  });

  it("is held back by a backend that asks for it, until it drains", () => {
    const { port, chip, terminal, print } = make();
    terminal.ready = false;
    print("A");
    port.flush();
    expect(chip.read(LSR) & 0x60).toBe(0);
    terminal.ready = true;
    terminal.drain();
    expect(chip.read(LSR) & 0x60).toBe(0x60);
  });

  it("is not held back for ever by one that never drains", () => {
    const { port, chip, terminal, clock, print, later } = make();
    terminal.ready = false;
    print("A");
    port.flush();
    print("B"); // a driver that does not look at LSR
    later();
    expect(terminal.writes).toEqual(["A"]);
    clock.advance(10_000_000_000n);
    expect(chip.read(LSR) & 0x60).toBe(0x60);
    print("C");
    later();
    expect(chip.read(LSR) & 0x60).toBe(0x60);
    expect(terminal.writes.join("")).toBe("ABC");
  });

  it("of a guest that the host does not keep up with waits in the chip, which says so", () => {
    const { port, chip, terminal, print } = make();
    let sent = 0;
    for (; chip.read(LSR) & 0x20 && sent < 2 ** 20; sent += 16) print("x".repeat(16));
    expect(sent).toBe(16 * 1024);
    port.flush();
    expect([terminal.writes.join("").length, chip.read(LSR) & 0x60]).toEqual([sent, 0x60]);
  });
});

describe("input", () => {
  it("reaches the receiver in order", () => {
    const { chip, type, read } = make();
    type("abc");
    expect(chip.read(LSR)).toBe(0x61);
    expect([read(3), chip.read(LSR)]).toEqual(["abc", 0x60]);
  });

  it("waits on the host while the receiver is full: nothing overruns", async () => {
    const { chip, type, terminal, read } = make();
    type("x".repeat(5000));
    expect(terminal.accepting).toBe(false);
    expect(read(5000)).toBe("x".repeat(5000));
    await until(() => terminal.accepting);
    expect([terminal.accepting, chip.read(LSR)]).toEqual([true, 0x60]);
  });

  it("beyond 64 KiB is lost, and none of what was before", () => {
    const { chip, type, read } = make();
    type("a".repeat(64 * 1024));
    type("b".repeat(100));
    // One byte was in the receiver already.
    expect(read(64 * 1024 + 1)).toBe(`${"a".repeat(64 * 1024)}b`);
    expect(chip.read(LSR)).toBe(0x60);
  });
});

describe("state", () => {
  it("goes on where it was, waiting input included", () => {
    const one = make();
    one.type("0123456789abcdefXYZ");
    one.read(1);
    const saved = JSON.parse(JSON.stringify(one.port.save()));
    const two = make();
    two.port.restore(saved, "uart9");
    expect(two.read(18)).toBe("123456789abcdefXYZ");
  });

  it("hands over what was sent before it is saved", () => {
    const { port, terminal, print } = make();
    print("last words");
    port.save();
    expect(terminal.writes).toEqual(["last words"]);
  });

  it("is refused whole, with device and field, where it does not fit", () => {
    const { port, chip } = make();
    chip.write(SCR, 0x77);
    const saved = port.save() as { version: number; state: object };
    const refused = (state: unknown) => {
      expect(() => port.restore(state, "com1")).toThrow(StateError);
      return () => port.restore(state, "com1");
    };
    expect(refused({ ...saved, state: { ...saved.state, ier: 256 } })).toThrow(/com1: uart\.ier/);
    expect(refused({ ...saved, state: { ...saved.state, ier: 16 } })).toThrow(/com1: uart\.ier/);
    const long = { received: "00".repeat(17) };
    expect(refused({ ...saved, state: { ...saved.state, ...long } })).toThrow(/uart\.received/);
    expect(refused({ ...saved, version: 99 })).toThrow(/version/);
    for (const wrong of [null, undefined, 1, "", []]) refused(wrong);
    expect(chip.read(SCR)).toBe(0x77);
  });

  it("is power-on's after reset", () => {
    const { port, chip } = make();
    chip.write(SCR, 0x77);
    port.reset();
    expect([chip.read(SCR), chip.read(LSR)]).toEqual([0, 0x60]);
  });
});

it("COM1 and COM2 survive save, restore, save, and leave their ports to others", () => {
  for (const where of [COM1, COM2]) {
    const backend = new Terminal();
    const uart = new Uart(machine, { ...where, backend });
    checkDevice(uart);
    const spec = { name: "taken", space: "pio", base: where.base, length: 8 } as const;
    const handler = { read: () => 0, write: () => {} };
    expect(() => machine.bus.map(spec, handler)).toThrow(RangeError);
    uart.dispose();
    expect(backend.closed).toBe(true);
    machine.bus.map(spec, handler).remove();
  }
});
