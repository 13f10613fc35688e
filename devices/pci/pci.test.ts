import { describe, expect, it } from "vitest";
import { checkDevice, DeviceSet } from "../device.js";
import { FakeHost } from "../fakes.js";
import { hostBridge } from "../hostbridge/model.js";
import { lpcBridge } from "../lpc/model.js";
import { PciBus } from "./bus.js";
import { PciFunction, type PciFunctionSpec } from "./function.js";
import { gsiOf, pirqOf } from "./routing.js";

const ECAM = 0xe0000000;
const ones = 0xffffffff;

/** A scratch register behind every BAR: reads give what was written. */
const scratch = () => {
  const cells = new Map<number, number>();
  return {
    read: (offset: number) => cells.get(offset) ?? 0,
    write: (offset: number, _size: number, value: number) => {
      cells.set(offset, value);
    },
  };
};

const spec = (more: Partial<PciFunctionSpec> = {}): PciFunctionSpec => ({
  name: "thing",
  vendor: 0x10dd,
  device: 0x0001,
  classCode: 0x020000,
  ...more,
});

function make(more: Partial<PciFunctionSpec> = {}, options = {}) {
  const host = new FakeHost();
  const pci = new PciBus(host, options);
  const fn = new PciFunction(spec(more));
  pci.add({ bus: 0, slot: 3, fn: 0 }, fn);
  return { host, bus: host.bus, pci, fn, ...accessors(host, 3) };
}

function addLpc(pci: PciBus): PciFunction {
  const bridge = lpcBridge(pci.router);
  pci.add({ bus: 0, slot: 31, fn: 0 }, bridge);
  return bridge;
}

/** Mechanism #1 by hand: enable, bus 0, slot, function 0. */
function accessors({ bus }: FakeHost, slot: number, func = 0) {
  const select = (at: number) =>
    bus.out(0xcf8, (0x80000000 + slot * 0x800 + func * 0x100 + (at & 0xfc)) >>> 0, 4);
  return {
    config: (at: number, size = 4) => {
      select(at);
      return bus.in(0xcfc + (at & 3), size);
    },
    setConfig: (at: number, value: number, size = 4) => {
      select(at);
      bus.out(0xcfc + (at & 3), value, size);
    },
  };
}

describe("configuration mechanism #1", () => {
  it("latches the address, reserved bits zero, and finds functions", () => {
    const { bus, config } = make();
    bus.out(0xcf8, ones, 4);
    expect(bus.in(0xcf8, 4)).toBe(0x80fffffc);
    expect(config(0)).toBe(0x000110dd);
    expect([config(0, 2), config(2, 2), config(1, 1)]).toEqual([0x10dd, 0x0001, 0x10]);
    expect(config(0x08)).toBe(0x02000000);
  });

  it("gives all ones for what is absent, disabled, or not aligned to its size", () => {
    const { bus } = make();
    const absent = accessors({ bus } as FakeHost, 4);
    expect(absent.config(0)).toBe(ones);
    bus.out(0xcf8, 0x00001800, 4); // enable clear
    expect(bus.in(0xcfc, 4)).toBe(ones);
    bus.out(0xcf8, 0x80001800, 4);
    expect(bus.in(0xcfd, 2)).toBe(0xffff);
  });

  it("leaves narrow accesses of 0xCF8 alone", () => {
    const { bus } = make();
    bus.out(0xcf8, 0x80001804, 4);
    bus.out(0xcf8, 0x12, 1);
    expect([bus.in(0xcf8, 4), bus.in(0xcf8, 1), bus.in(0xcfa, 2)]).toEqual([
      0x80001804, 0xff, 0xffff,
    ]);
  });
});

describe("ECAM", () => {
  it("shows the same space, without an exit for reads of bus 0", () => {
    const { bus, setConfig } = make();
    setConfig(0x3c, 0x42, 1);
    const before = bus.directs;
    expect(bus.load(ECAM + 0x18000)).toBe(0x000110dd);
    expect(bus.load(ECAM + 0x1803c, 1)).toBe(0x42);
    expect(bus.load(ECAM + 0x20000)).toBe(ones); // slot 4
    expect(bus.directs).toBe(before);
    expect(bus.load(ECAM + 0x100000)).toBe(ones); // bus 1
    expect(bus.load(ECAM + 0x0ffffffc)).toBe(ones);
  });

  it("takes writes, which mechanism #1 then sees", () => {
    const { bus, config } = make();
    bus.store(ECAM + 0x18004, 0x0400, 2);
    expect(config(4, 2)).toBe(0x0400);
    expect(bus.load(ECAM + 0x18004, 2)).toBe(0x0400);
  });

  it("has no extended capabilities on a conventional function, and zeroes on an Express one", () => {
    const { bus, pci } = make();
    pci.add({ bus: 0, slot: 0, fn: 0 }, hostBridge("hostbridge"));
    expect([bus.load(ECAM + 0x18100), bus.load(ECAM + 0x18104)]).toEqual([0, ones]);
    expect([bus.load(ECAM + 0x100), bus.load(ECAM + 0xffc)]).toEqual([0, 0]);
  });

  it("finds functions on other buses too", () => {
    const { bus, pci } = make();
    pci.add({ bus: 2, slot: 1, fn: 0 }, new PciFunction(spec({ name: "far" })));
    expect(bus.load(ECAM + 0x208000)).toBe(0x000110dd);
  });
});

describe("header", () => {
  it("keeps read-only registers, clears status by ones, and masks the command", () => {
    const { config, setConfig } = make();
    setConfig(0, 0);
    setConfig(8, 0);
    expect([config(0), config(8)]).toEqual([0x000110dd, 0x02000000]);
    setConfig(4, 0xffff, 2);
    expect(config(4, 2)).toBe(0x0547);
    expect(config(6, 2) & 0x10).toBe(0); // no capabilities
  });

  it("is multi-function when another function shares the slot, in either order", () => {
    const { pci, config } = make();
    expect(config(0x0e, 1)).toBe(0);
    pci.add({ bus: 0, slot: 3, fn: 2 }, new PciFunction(spec({ name: "second" })));
    expect(config(0x0e, 1)).toBe(0x80);
    pci.add({ bus: 0, slot: 9, fn: 1 }, new PciFunction(spec({ name: "third" })));
    pci.add({ bus: 0, slot: 9, fn: 0 }, new PciFunction(spec({ name: "fourth" })));
    expect(pci.function({ bus: 0, slot: 9, fn: 0 })?.readConfig(0x0e, 1)).toBe(0x80);
  });

  it("refuses an address that is taken or impossible", () => {
    const { pci } = make();
    const other = new PciFunction(spec({ name: "other" }));
    expect(() => pci.add({ bus: 0, slot: 3, fn: 0 }, other)).toThrow("PCI 0:3:0: two functions");
    expect(() => pci.add({ bus: 0, slot: 32, fn: 0 }, other)).toThrow("no such address");
  });
});

describe("BARs", () => {
  const bars = [
    { index: 0, kind: "io", size: 32, handler: scratch() },
    { index: 1, kind: "mem32", size: 4096, handler: scratch() },
    { index: 2, kind: "mem64", size: 0x10000, prefetchable: true, handler: scratch() },
  ] as const;

  it("are programmed and decoding from the start", () => {
    const { bus, config } = make({ bars });
    expect([config(0x10), config(0x14), config(0x18), config(0x1c)]).toEqual([
      0x2001, 0xc0000000, 0xc001000c, 0,
    ]);
    bus.out(0x2004, 7, 4);
    bus.store(0xc0000010, 8);
    expect([bus.in(0x2004, 4), bus.load(0xc0000010)]).toEqual([7, 8]);
  });

  it("tell their size", () => {
    const { config, setConfig } = make({ bars });
    setConfig(4, 0, 2);
    for (const at of [0x10, 0x14, 0x18, 0x1c, 0x20]) setConfig(at, ones);
    expect([config(0x10), config(0x14), config(0x18), config(0x1c), config(0x20)]).toEqual([
      0xffe1,
      0xfffff000,
      0xffff000c,
      ones,
      0,
    ]);
  });

  it("move, and decode only while the command says so", () => {
    const { bus, setConfig } = make({ bars });
    bus.store(0xc0000010, 8);
    setConfig(0x14, 0xd0000000);
    expect([bus.load(0xc0000010), bus.load(0xd0000010)]).toEqual([ones, 8]);
    setConfig(4, 0x0001, 2);
    expect(bus.load(0xd0000010)).toBe(ones);
    setConfig(4, 0x0003, 2);
    expect(bus.load(0xd0000010)).toBe(8);
    setConfig(0x18, 0, 4);
    setConfig(0x1c, 0xd8, 4); // 0xD8_00000000
    bus.store(0xd800000020, 9);
    expect(bus.load(0xd800000020)).toBe(9);
  });

  it("large 64-bit ones lie above 4 GiB, small ones below, all naturally aligned", () => {
    const size = 64 * 2 ** 20;
    const { config } = make({
      bars: [
        { index: 0, kind: "mem64", size, handler: scratch() },
        { index: 2, kind: "mem64", size: 32 * 2 ** 20, handler: scratch() },
        { index: 4, kind: "mem32", size: 16, handler: scratch() },
      ],
    });
    expect([config(0x10), config(0x14)]).toEqual([0x4, 0xd0]);
    expect([config(0x18), config(0x1c), config(0x20)]).toEqual([0xc0000004, 0, 0xc2000000]);
  });

  it("never decode over RAM, ECAM or controllers, nor where sizing leaves them", () => {
    const { bus, setConfig } = make({ bars });
    for (const base of [0, 0x1000, 0xe0000000, 0xfee00000, 0xfffff000]) {
      setConfig(0x14, base);
      bus.store(base + 0x10, 1);
      expect(bus.load(base + 0x10)).not.toBe(1);
    }
    setConfig(0x14, 0xc8000000);
    bus.store(0xc8000010, 1);
    expect(bus.load(0xc8000010)).toBe(1);
  });

  it("that collide wait until the place is free", () => {
    const { bus, host, pci, setConfig } = make({ bars });
    const handler = scratch();
    const second = new PciFunction(
      spec({ name: "second", bars: [{ index: 0, kind: "mem32", size: 4096, handler }] }),
    );
    pci.add({ bus: 0, slot: 5, fn: 0 }, second);
    accessors(host, 5).setConfig(0x10, 0xc0000000);
    bus.store(0xc0000040, 5);
    expect(second.blocked).toBe(true);
    setConfig(0x14, 0xcc000000);
    expect([second.blocked, bus.load(0xcc000040)]).toEqual([false, 5]);
    bus.store(0xc0000040, 6);
    expect([bus.load(0xc0000040), bus.load(0xcc000040)]).toEqual([6, 5]);
  });

  it("begin after a device that holds ports of their window", () => {
    const { config } = make({ bars }, { ioFrom: 0x2100 });
    expect(config(0x10)).toBe(0x2101);
  });

  it("of impossible sizes are our mistake", () => {
    const handler = scratch();
    expect(() => make({ bars: [{ index: 0, kind: "io", size: 24, handler }] })).toThrow("BAR 0");
    expect(() => make({ bars: [{ index: 5, kind: "mem64", size: 4096, handler }] })).toThrow(
      "BAR 5",
    );
  });
});

describe("MSI", () => {
  const enable = (
    setConfig: (at: number, value: number, size?: number) => void,
    control: number,
  ) => {
    setConfig(0x44, 0xfee01000);
    setConfig(0x48, 0);
    setConfig(0x4c, 0x0040, 2);
    setConfig(0x42, control, 2);
  };

  it("is a 64-bit capability of 14 bytes at 0x40", () => {
    const { config } = make({ msi: { messages: 4 } });
    expect([config(0x34, 1), config(6, 2) & 0x10]).toEqual([0x40, 0x10]);
    expect(config(0x40)).toBe(0x00840005); // 64-bit, 4 messages, last capability
  });

  it("sends the messages that the guest allowed", () => {
    const { host, fn, setConfig } = make({ msi: { messages: 4 } });
    expect(fn.signal(0)).toBe(false);
    enable(setConfig, 0x0011); // two of four
    expect(fn.signal(1)).toBe(true);
    fn.signal(3);
    expect(host.interrupts.messages).toEqual([
      { address: 0xfee01000, data: 0x41 },
      { address: 0xfee01000, data: 0x41 },
    ]);
  });

  it("needs bus mastering and an address of the local APICs", () => {
    const { host, fn, setConfig } = make({ msi: { messages: 1 } });
    enable(setConfig, 0x0001);
    setConfig(4, 0x0003, 2);
    fn.signal(0);
    setConfig(4, 0x0007, 2);
    setConfig(0x48, 1);
    fn.signal(0);
    setConfig(0x48, 0);
    setConfig(0x44, 0x00001000);
    fn.signal(0);
    expect(host.interrupts.messages).toEqual([]);
  });
});

describe("MSI-X", () => {
  const table = 0xc0000000;
  const ready = () => {
    const made = make({ msix: { vectors: 3, bar: 1 } });
    for (let vector = 0; vector < 3; vector++) {
      made.bus.store(table + 16 * vector, 0xfee00000);
      made.bus.store(table + 16 * vector + 8, 0x50 + vector);
      made.bus.store(table + 16 * vector + 12, 0);
    }
    made.setConfig(0x42, 0x8000, 2);
    return made;
  };

  it("is a capability of 12 bytes, its table and pending bits in a BAR of their own", () => {
    const { config, bus } = make({ msix: { vectors: 3, bar: 1 } });
    expect([config(0x40), config(0x44), config(0x48)]).toEqual([0x00020011, 0x1, 0x1001]);
    expect([bus.load(table + 12), bus.load(table + 0x1000)]).toEqual([1, 0]); // masked, none pending
  });

  it("sends each vector's own message", () => {
    const { host, fn } = ready();
    fn.signal(2);
    fn.signal(0);
    fn.signal(7); // no such vector
    expect(host.interrupts.messages.map(({ data }) => data)).toEqual([0x52, 0x50]);
  });

  it("keeps a masked vector pending and delivers it once when it is unmasked", () => {
    const { host, bus, fn } = ready();
    bus.store(table + 16 + 12, 1);
    fn.signal(1);
    fn.signal(1);
    expect([bus.load(table + 0x1000), host.interrupts.messages.length]).toEqual([2, 0]);
    bus.store(table + 16 + 12, 0);
    expect([bus.load(table + 0x1000), host.interrupts.messages]).toEqual([
      0,
      [{ address: 0xfee00000, data: 0x51 }],
    ]);
  });

  it("does the same for the whole function's mask, and for bus mastering", () => {
    const { host, fn, setConfig } = ready();
    setConfig(0x42, 0xc000, 2);
    fn.signal(0);
    setConfig(0x42, 0x8000, 2);
    expect(host.interrupts.messages.length).toBe(1);
    setConfig(4, 0x0003, 2);
    fn.signal(2);
    setConfig(4, 0x0007, 2);
    expect(host.interrupts.messages.map(({ data }) => data)).toEqual([0x50, 0x52]);
  });

  it("keeps table, pending bits and masks through save and restore", () => {
    const one = ready();
    one.bus.store(table + 12, 1);
    one.fn.signal(0);
    const two = make({ msix: { vectors: 3, bar: 1 } });
    two.fn.restore(JSON.parse(JSON.stringify(one.fn.save())));
    two.bus.store(table + 12, 0);
    expect(two.host.interrupts.messages).toEqual([{ address: 0xfee00000, data: 0x50 }]);
  });
});

describe("INTx", () => {
  it("is GSI 16 + ((slot + pin) & 7) and the PIRQ of the same number", () => {
    expect([gsiOf(0, 1), gsiOf(3, 1), gsiOf(6, 2), gsiOf(7, 4), gsiOf(31, 1)]).toEqual([
      17, 20, 16, 19, 16,
    ]);
    for (let slot = 0; slot < 32; slot++)
      for (const pin of [1, 2, 3, 4] as const)
        expect(gsiOf(slot, pin) - 16).toBe(pirqOf(slot, pin));
  });

  it("reaches its IO-APIC pin and, by the PIRQ, the 8259, and shows in status", () => {
    const { host, config, fn, pci } = make({ intx: true });
    expect([config(0x3d, 1), config(0x3c, 1)]).toEqual([1, 10]); // PIRQ E
    fn.setIntx(true);
    const { interrupts } = host;
    expect([interrupts.wire("ioapic", 20).level, interrupts.wire("pic", 10).level]).toEqual([
      true,
      true,
    ]);
    expect(config(6, 2) & 8).toBe(8);
    expect(interrupts.levelTriggered.has(10)).toBe(true);
    fn.setIntx(false);
    expect([interrupts.wire("ioapic", 20).level, interrupts.wire("pic", 10).level]).toEqual([
      false,
      false,
    ]);
    expect(pci.intxUses).toEqual([{ bus: 0, slot: 3, fn: 0, name: "thing", pin: 1 }]);
  });

  it("is held while disabled or while messages are on, and comes back", () => {
    const { host, config, setConfig, fn } = make({ intx: true, msi: { messages: 1 } });
    const wire = host.interrupts.wire("ioapic", 20);
    fn.setIntx(true);
    setConfig(4, 0x0407, 2);
    expect([wire.level, config(6, 2) & 8]).toEqual([false, 8]);
    setConfig(4, 0x0007, 2);
    expect(wire.level).toBe(true);
    setConfig(0x42, 0x0001, 2);
    expect(wire.level).toBe(false);
    setConfig(0x42, 0x0000, 2);
    expect(wire.level).toBe(true);
  });

  it("is shared by the functions of one wire", () => {
    const { host, fn, pci } = make({ intx: true });
    const other = new PciFunction(spec({ name: "other", intx: true }));
    pci.add({ bus: 0, slot: 11, fn: 0 }, other);
    const wire = host.interrupts.wire("pic", 10);
    fn.setIntx(true);
    other.setIntx(true);
    fn.setIntx(false);
    expect(wire.level).toBe(true);
    other.setIntx(false);
    expect(wire.level).toBe(false);
  });
});

describe("bridges", () => {
  it("the host bridge has the original's identity and a root port's capability", () => {
    const host = new FakeHost();
    const pci = new PciBus(host);
    pci.add({ bus: 0, slot: 0, fn: 0 }, hostBridge("hostbridge0"));
    pci.add({ bus: 0, slot: 1, fn: 0 }, hostBridge("hostbridge1", "amd_hostbridge"));
    const { config } = accessors(host, 0);
    expect([config(0), config(8), config(0x0e, 1)]).toEqual([0x12751275, 0x06000000, 0]);
    expect([config(0x34, 1), config(0x40), config(0x4c)]).toEqual([0x40, 0x00420010, 0x411]);
    expect(config(0x52, 2)).toBe(0x11);
    expect(accessors(host, 1).config(0)).toBe(0x74321022);
  });

  it("the LPC bridge keeps the PIRQ registers and moves asserted interrupts with them", () => {
    const { host, pci, fn } = make({ intx: true });
    const { interrupts } = host;
    addLpc(pci);
    const { config, setConfig } = accessors(host, 31);
    expect([config(0), config(8)]).toEqual([0x70008086, 0x06010000]);
    expect(config(0x68, 1)).toBe(10); // PIRQ E: slot 3's INTA
    fn.setIntx(true);
    setConfig(0x68, 0x05, 1);
    expect([interrupts.wire("pic", 10).level, interrupts.wire("pic", 5).level]).toEqual([
      false,
      true,
    ]);
    setConfig(0x68, 0x80, 1);
    expect(interrupts.wire("pic", 5).level).toBe(false);
    setConfig(0x68, 0x02, 1); // the cascade cannot be routed to
    expect(interrupts.wire("pic", 2).level).toBe(false);
    expect(interrupts.wire("ioapic", 20).level).toBe(true);
  });

  it("keeps the routing through save and restore", () => {
    const one = make({ intx: true });
    const lpc = addLpc(one.pci);
    accessors(one.host, 31).setConfig(0x68, 0x0b, 1);
    const two = make({ intx: true });
    addLpc(two.pci).restore(lpc.save());
    two.fn.setIntx(true);
    expect(two.host.interrupts.wire("pic", 11).level).toBe(true);
  });
});

describe("state", () => {
  it("keeps BARs where the guest moved them, and latch and INTx", () => {
    const bars = [{ index: 0, kind: "mem32", size: 4096, handler: scratch() }] as const;
    const one = make({ bars, intx: true });
    one.setConfig(0x10, 0xd0000000);
    one.fn.setIntx(true);
    const two = make({ bars: [{ ...bars[0], handler: scratch() }], intx: true });
    two.fn.restore(JSON.parse(JSON.stringify(one.fn.save())));
    two.pci.restore(one.pci.save());
    two.bus.store(0xd0000000, 3);
    expect([two.bus.load(0xd0000000), two.bus.load(0xc0000000)]).toEqual([3, ones]);
    expect([two.host.interrupts.wire("ioapic", 20).level, two.bus.in(0xcf8, 4)]).toEqual([
      true,
      one.bus.in(0xcf8, 4),
    ]);
    two.fn.reset();
    expect([two.config(0x10), two.host.interrupts.wire("ioapic", 20).level]).toEqual([
      0xc0000000,
      false,
    ]);
  });

  it("of another device is refused", () => {
    const { fn, pci } = make();
    const saved = new PciFunction(spec({ device: 2 })).save();
    expect(() => fn.restore(saved)).toThrow("thing.config: another PCI device");
    expect(() => fn.restore({ config: "AA==", intx: false, msix: null })).toThrow("thing.config");
    expect(() => pci.restore({ address: -1 })).toThrow("pci.address");
  });

  it("every function survives its registration", () => {
    const { fn, pci } = make({ intx: true, msi: { messages: 2 }, msix: { vectors: 65, bar: 4 } });
    const lpc = lpcBridge(pci.router);
    for (const device of [fn, pci, lpc, hostBridge("hostbridge0")]) checkDevice(device);
    const set = new DeviceSet();
    set.add(pci);
    set.add(fn);
    expect(Object.keys(set.save())).toEqual(["pci", "thing"]);
  });
});

it("no access of any width at any place breaks it", () => {
  const { bus, pci } = make({
    bars: [{ index: 0, kind: "mem64", size: 4096, handler: scratch() }],
    msi: { messages: 32 },
    msix: { vectors: 5, bar: 2 },
    intx: true,
  });
  addLpc(pci);
  let seed = 12345;
  const random = (below: number) => {
    seed = (seed * 1103515245 + 12345) >>> 0;
    return Math.floor((seed / 2 ** 32) * below);
  };
  for (let i = 0; i < 20_000; i++) {
    const size = [1, 2, 4][random(3)] ?? 1;
    const slot = [3, 31, 7][random(3)] ?? 3;
    const value = random(2 ** 32);
    bus.out(0xcf8, 0x80000000 + slot * 0x800 + random(0x100), 4);
    bus.out(0xcf8 + random(8), value, size);
    bus.store(ECAM + slot * 0x8000 + random(0x1000), value, size);
    const read = bus.load(ECAM + slot * 0x8000 + random(0x1000), size);
    expect(read >= 0 && read <= ones).toBe(true);
  }
});
