import { beforeEach, describe, expect, it } from "vitest";
import { checkDevice } from "../device.js";
import { FakeHost } from "../fakes.js";
import { PciBus } from "../pci/bus.js";
import type { Chain } from "./chain.js";
import { type DriverQueue, defineVirtioDevice, serveAll, type VirtioContext } from "./device.js";
import { FakeDriver, type FakeDriverOptions, FakePci, type FakeSplitRing } from "./fake-driver.js";
import { VirtioPci } from "./pci.js";

const SLOT = 4;
const MIB = 2 ** 20;

interface EchoOptions {
  /** Chains are kept here instead of being answered. */
  readonly hold?: Chain[];
  readonly queues?: number;
}

/** Answers every chain with its bytes in reverse order. */
const echo = defineVirtioDevice({
  name: "echo",
  type: 2,
  transitional: 0x1001,
  classCode: 0x010000,
  configLength: 33,
  queues: ({ queues = 1 }: EchoOptions) =>
    Array.from({ length: queues }, (_, index) => ({ name: `q${index}`, maxSize: 8 })),
  features: () => [5],
  create: ({ hold }: EchoOptions, context: VirtioContext) => {
    const serve = (chain: Chain): void => {
      if (hold) hold.push(chain);
      else answer(chain);
    };
    return {
      config: Uint8Array.from({ length: 33 }, (_, index) => index),
      notified: (queue: DriverQueue) => serveAll(queue, serve),
      resumed: (_queue: DriverQueue, chain: Chain) => serve(chain),
      writeConfig: (offset: number) => {
        if (offset === 8) context.configChanged();
      },
    };
  },
});

function answer(chain: Chain): void {
  const bytes = new Uint8Array(Math.min(chain.readable.bytes, 1024));
  chain.read(0, bytes);
  chain.done(chain.write(0, bytes.reverse()));
}

const log: string[] = [];
beforeEach(() => {
  log.length = 0;
});

function make(options: EchoOptions = {}, msix = true) {
  const host = new FakeHost(8 * MIB);
  const pci = new PciBus(host);
  const address = { bus: 0, slot: SLOT, fn: 0 };
  const common = { name: "echo0", address, msix, log: (text: string) => void log.push(text) };
  const device = new VirtioPci(host, pci, echo, options, common);
  return { host, pci, device };
}

const drive = (host: FakeHost, options: Partial<FakeDriverOptions> = {}): FakeDriver =>
  new FakeDriver(host, { slot: SLOT, interface: "modern", interrupts: "msix", ...options });

const bytes = (...values: number[]): Uint8Array => Uint8Array.from(values);
const hex = (values: Uint8Array): number[] => [...values];

// Feature bits, retyped from VIRTIO 1.2 "Reserved Feature Bits".
const INDIRECT = 28;
const EVENT_IDX = 29;
const VERSION_1 = 32;
const PACKED = 34;

const ways: [string, Partial<FakeDriverOptions>][] = [
  ["legacy, MSI-X", { interface: "legacy" }],
  ["legacy, INTx", { interface: "legacy", interrupts: "intx" }],
  ["legacy, indirect, event index", { interface: "legacy", features: [INDIRECT, EVENT_IDX] }],
  ["split", {}],
  ["split, INTx", { interrupts: "intx" }],
  ["split, indirect, event index", { features: [INDIRECT, EVENT_IDX] }],
  ["split, a ring of 2", { queueSize: 2 }],
  ["packed", { features: [PACKED] }],
  ["packed, indirect", { features: [PACKED, INDIRECT] }],
  ["packed, event index, a ring of 5", { features: [PACKED, EVENT_IDX], queueSize: 5 }],
];

describe.each(ways)("a driver (%s)", (_, options) => {
  it("gets answers, many times round the ring", () => {
    const { host } = make();
    const queue = drive(host, options).start().queue(0);
    for (let round = 0; round < 40; round++) {
      queue.send([bytes(round, 1, 2)], [8]);
      const used = queue.allUsed();
      expect(used.map(({ length }) => length)).toEqual([3]);
      expect(hex(used[0]?.bytes.subarray(0, 3) ?? bytes())).toEqual([2, 1, round]);
    }
    expect(log).toEqual([]);
  });

  it("finds its chains after a save and a restore in the middle", () => {
    const hold: Chain[] = [];
    const { host, device } = make({ hold });
    const driver = drive(host, { ...options, queueSize: options.queueSize === 2 ? 2 : 8 });
    const queue = driver.start().queue(0);
    queue.send([bytes(1)], [1]);
    const state = JSON.parse(JSON.stringify(device.save()));
    device.dispose();
    const again = make();
    again.host.memory.bytes.set(host.memory.bytes);
    again.device.restore(state);
    again.device.wake();
    host.memory.bytes.set(again.host.memory.bytes);
    expect(queue.allUsed().map((used) => hex(used.bytes))).toEqual([[1]]);
    expect(again.device.save()).toEqual({
      ...state,
      core: expect.anything(),
      isr: expect.anything(),
      function: expect.anything(),
    });
  });
});

describe("identity", () => {
  it("is a transitional device", () => {
    const { host } = make();
    const pci = new FakePci(host, SLOT);
    expect([pci.config(0), pci.config(8), pci.config(0x2c)]).toEqual([
      0x10011af4, 0x01000000, 0x00021af4,
    ]);
    expect([pci.bar(0), pci.bar(1)]).toEqual([0x2000, 0xc0000000]);
    expect(pci.capabilities(0x11).length).toBe(1);
    expect(
      pci
        .capabilities(0x09)
        .map((at) => pci.config(at + 3, 1))
        .sort(),
    ).toEqual([1, 2, 3, 4, 5]);
  });

  it("has one MSI message and no MSI-X where asked (-W)", () => {
    const { host } = make({}, false);
    const pci = new FakePci(host, SLOT);
    expect([pci.capabilities(0x11).length, pci.capabilities(0x05).length]).toEqual([0, 1]);
    const driver = drive(host, { interrupts: "msi", interface: "legacy" }).start();
    driver.queue(0).send([bytes(1)], [1]);
    expect(driver.vectors).toEqual([0]);
  });

  it("survives its registration", () => {
    checkDevice(make().device);
  });

  it("reads and writes by the window in configuration space", () => {
    const { host } = make();
    const pci = new FakePci(host, SLOT);
    const at = pci.capabilities(0x09).find((one) => pci.config(one + 3, 1) === 5) ?? 0;
    pci.setConfig(at + 4, 2, 1); // BAR 2
    pci.setConfig(at + 8, 0x14); // device_status
    pci.setConfig(at + 12, 1);
    pci.setConfig(at + 16, 3, 1);
    host.bus.out(0xcf8, 0x80000000 | (SLOT << 11) | (at + 16), 4);
    expect([host.bus.in(0xcfc, 1), drive(host).status]).toEqual([3, 3]);
  });
});

describe("the legacy registers", () => {
  it("lie as in the 0.9.5 layout; configuration moves with MSI-X", () => {
    const { host } = make();
    const at = (offset: number, size: number) => host.bus.in(0x2000 + offset, size);
    expect([at(0x0c, 2), at(0x0e, 2), at(0x12, 1), at(0x13, 1)]).toEqual([8, 0, 0, 0]);
    expect([at(0x14, 1), at(0x15, 1)]).toEqual([0, 1]);
    new FakePci(host, SLOT).enableMsix(2);
    expect([at(0x14, 2), at(0x16, 2), at(0x18, 1), at(0x19, 2)]).toEqual([
      0xffff, 0xffff, 0, 0x0201,
    ]);
    host.bus.out(0x2000 + 0x16, 1, 2);
    host.bus.out(0x2000 + 0x14, 7, 2); // a vector that it does not have
    expect([at(0x16, 2), at(0x14, 2)]).toEqual([1, 0xffff]);
    expect([at(0x0c, 4), at(0x01, 1)]).toEqual([0xffffffff, 0xff]); // wrong width, wrong place
    host.bus.out(0x2000 + 0x0e, 1, 2);
    expect(at(0x0c, 2)).toBe(0);
  });

  it("offer what a legacy driver may know, and take no more", () => {
    const { host, device } = make();
    const offered = host.bus.in(0x2000, 4);
    expect(offered >>> 0).toBe(((1 << 5) | (1 << 24) | (1 << 27) | (1 << 28) | (1 << 29)) >>> 0);
    host.bus.out(0x2004, 0xffffffff, 4);
    expect([host.bus.in(0x2004, 4), device.core.has(VERSION_1)]).toEqual([offered, false]);
  });
});

describe("negotiation", () => {
  it("hides legacy bits from virtio 1 and wants VERSION_1", () => {
    const { host } = make();
    const driver = drive(host);
    const offered = driver.offered();
    expect([(offered >> 24n) & 1n, (offered >> 27n) & 1n, (offered >> 32n) & 1n]).toEqual([
      0n,
      0n,
      1n,
    ]);
    for (const features of [1n << 5n, (1n << 32n) | (1n << 6n), (1n << 32n) | (1n << 24n)]) {
      driver.status = 0;
      driver.status = 3;
      driver.acceptFeatures(features);
      driver.status = 0x0b;
      expect(driver.status).toBe(3); // FEATURES_OK is not kept
      driver.status = 0x07;
      expect(driver.status).toBe(3); // nor DRIVER_OK without it
    }
  });

  it("is over with FEATURES_OK, until a reset", () => {
    const { host, device } = make();
    const driver = drive(host, { features: [5] }).start();
    driver.acceptFeatures(0n);
    expect([device.core.has(5), driver.status]).toEqual([true, 0x0f]);
    driver.status = 0;
    expect([device.core.has(5), driver.status, driver.common(0x1c, 2)]).toEqual([false, 0, 0]);
  });
});

describe("interrupts", () => {
  it("are each queue's own vector, sent once for what was used in one turn", () => {
    const { host } = make({ queues: 2 });
    const driver = drive(host).start();
    for (const index of [0, 1]) {
      for (let i = 0; i < 3; i++) driver.queue(index).add([bytes(1)], [1]);
      driver.queue(index).kick();
    }
    expect(driver.vectors).toEqual([1, 2]);
    expect(driver.isr()).toBe(0);
  });

  it("raise the pin and the ISR bit without messages; reading clears both", () => {
    const { host } = make();
    const driver = drive(host, { interrupts: "intx" }).start();
    const wire = host.interrupts.wire("ioapic", 16 + ((SLOT + 1) & 7));
    driver.queue(0).send([bytes(1)], [1]);
    expect([wire.level, driver.isr(), wire.level, driver.isr()]).toEqual([true, 1, false, 0]);
  });

  it("are not sent where the driver wants none", () => {
    const { host } = make();
    const driver = drive(host).start();
    driver.queue(0).ring.quiet(true);
    driver.queue(0).send([bytes(1)], [1]);
    driver.queue(0).ring.quiet(false);
    driver.queue(0).send([bytes(1)], [1]);
    expect(driver.vectors).toEqual([1]);
  });

  it.each([
    ["split", []],
    ["packed", [PACKED, INDIRECT]],
  ])("wait for the event index (%s)", (_, features) => {
    const { host } = make();
    const driver = drive(host, { features: [EVENT_IDX, ...features] }).start();
    const queue = driver.queue(0);
    for (let round = 0; round < 9; round++) {
      const before = driver.vectors.length;
      queue.allUsed();
      queue.ring.wantAfter(3);
      const counts = [1, 2, 3, 4].map(() => {
        queue.send([bytes(1)], [1]);
        return driver.vectors.length - before;
      });
      expect(counts).toEqual([0, 0, 1, 1]);
    }
  });

  it("come when the ring runs empty, wanted or not (NOTIFY_ON_EMPTY)", () => {
    const { host } = make();
    const driver = drive(host, { interface: "legacy", features: [24] }).start();
    driver.queue(0).ring.quiet(true);
    driver.queue(0).send([bytes(1)], [1]);
    expect(driver.vectors).toEqual([1]);
  });

  it("of the configuration have their vector, and the generation moves", () => {
    const { host } = make();
    const driver = drive(host).start();
    expect(driver.common(0x15, 1)).toBe(0);
    driver.setConfig(8, 1, 1);
    expect([driver.vectors, driver.common(0x15, 1), driver.isr()]).toEqual([[0], 1, 2]);
  });

  it("tell the driver when to ring (avail_event)", () => {
    const { host } = make();
    const queue = drive(host, { features: [EVENT_IDX] })
      .start()
      .queue(0);
    for (let i = 0; i < 3; i++) queue.send([bytes(1)], [1]);
    expect((queue.ring as FakeSplitRing).availableEvent).toBe(3);
  });
});

it("every write to memory is followed by written()", () => {
  const { host } = make();
  const driver = drive(host).start();
  host.memory.writes.length = 0;
  driver.queue(0).send([bytes(1, 2)], [2]);
  const { device } = driver.queue(0).ring.areas;
  expect(
    host.memory.writes.some(({ at, length }) => at <= device && at + length >= device + 14),
  ).toBe(true);
});

describe("a hostile driver", () => {
  const spoil = (
    options: Partial<FakeDriverOptions>,
    act: (driver: FakeDriver, ring: FakeSplitRing) => void,
  ) => {
    const { host } = make();
    const driver = drive(host, options).start();
    act(driver, driver.queue(0).ring as FakeSplitRing);
    driver.kick(0);
    driver.kick(0);
    return driver;
  };
  const descriptor = { at: 0x1000, length: 16, flags: 0, link: 0 };

  const cases: [string, RegExp, (driver: FakeDriver, ring: FakeSplitRing) => void][] = [
    ["names no descriptor", /descriptor 77 of 8/, (_, ring) => ring.publish(77)],
    [
      "makes a loop",
      /a loop of descriptors/,
      (_, ring) => {
        ring.describe(ring.areas.descriptors, 0, { ...descriptor, flags: 1, link: 0 });
        ring.publish(0);
      },
    ],
    [
      "gives a buffer outside of memory",
      /0x800000 is not in memory/,
      (_, ring) => {
        ring.describe(ring.areas.descriptors, 0, { ...descriptor, at: 8 * MIB });
        ring.publish(0);
      },
    ],
    [
      "gives a buffer that ends outside of memory",
      /is not in memory/,
      (_, ring) => {
        ring.describe(ring.areas.descriptors, 0, { ...descriptor, length: 0xffffffff });
        ring.publish(0);
      },
    ],
    [
      "orders buffers wrongly",
      /to read after one to write/,
      (_, ring) => {
        ring.describe(ring.areas.descriptors, 0, { ...descriptor, flags: 3, link: 1 });
        ring.describe(ring.areas.descriptors, 1, descriptor);
        ring.publish(0);
      },
    ],
    [
      "nests indirect tables",
      /an indirect table in an indirect/,
      (_, ring) => {
        ring.describe(0x2000, 0, { ...descriptor, flags: 4 });
        ring.describe(ring.areas.descriptors, 0, { at: 0x2000, length: 16, flags: 4, link: 0 });
        ring.publish(0);
      },
    ],
    [
      "loops in an indirect table",
      /a loop in an indirect/,
      (_, ring) => {
        ring.describe(0x2000, 0, { ...descriptor, flags: 1, link: 0 });
        ring.describe(ring.areas.descriptors, 0, { at: 0x2000, length: 16, flags: 4, link: 0 });
        ring.publish(0);
      },
    ],
    [
      "has an odd indirect table",
      /an indirect table of 17/,
      (_, ring) => {
        ring.describe(ring.areas.descriptors, 0, { at: 0x2000, length: 17, flags: 4, link: 0 });
        ring.publish(0);
      },
    ],
    [
      "has a huge indirect table",
      /an indirect table of/,
      (_, ring) => {
        ring.describe(ring.areas.descriptors, 0, { at: 0, length: 2 ** 31, flags: 4, link: 0 });
        ring.publish(0);
      },
    ],
    [
      "moves the index too far",
      /buffers available in a ring of 8/,
      (driver, ring) => {
        new DataView(driver.host.memory.bytes.buffer).setUint16(ring.areas.driver + 2, 99, true);
      },
    ],
  ];
  it.each(cases)("%s", (_, message, act) => {
    const driver = spoil({ features: [INDIRECT] }, act);
    expect(driver.status).toBe(0x4f);
    expect(log.length).toBe(1);
    expect(log[0]).toMatch(message);
    expect(driver.vectors).toEqual([0]); // the configuration's
    driver
      .start()
      .queue(0)
      .send([bytes(5)], [1]);
    expect([driver.status, driver.queue(0).allUsed().length]).toEqual([0x0f, 1]);
  });

  it("uses an indirect table without leave", () => {
    spoil({}, (_, ring) => {
      ring.describe(ring.areas.descriptors, 0, { at: 0x2000, length: 16, flags: 4, link: 0 });
      ring.publish(0);
    });
    expect(log[0]).toMatch(/not negotiated/);
  });

  it("enables a queue outside of memory, or askew", () => {
    for (const [at, value] of [
      [0x24, 7],
      [0x20, 8],
      [0x30, 8 * MIB - 4],
    ] as const) {
      const { host } = make();
      const driver = drive(host);
      driver.start();
      driver.status = 0;
      driver.setCommon(0x16, 0, 2);
      driver.setCommon(at, value, 4);
      driver.setCommon(0x1c, 1, 2);
      expect([driver.common(0x1c, 2), driver.status & 0x40]).toEqual([0, 0x40]);
    }
  });

  it("gives one buffer again and again while it is under way", () => {
    const hold: Chain[] = [];
    const { host } = make({ hold });
    const driver = drive(host).start();
    const ring = driver.queue(0).ring as FakeSplitRing;
    for (let i = 0; i < 30; i++) {
      ring.publish(0);
      driver.kick(0);
    }
    expect([hold.length, driver.status & 0x40]).toEqual([8, 0x40]);
  });
});

describe("chains under way", () => {
  it("at a reset go nowhere afterwards", async () => {
    const hold: Chain[] = [];
    const { host } = make({ hold });
    const driver = drive(host).start();
    driver.queue(0).send([bytes(1)], [1]);
    driver.status = 0;
    driver.start();
    for (const chain of hold) chain.done(0);
    await Promise.resolve();
    expect([driver.queue(0).used(), driver.vectors]).toEqual([undefined, []]);
  });

  it("are shown together when several end outside of a notification", async () => {
    const hold: Chain[] = [];
    const { host } = make({ hold });
    const driver = drive(host).start();
    for (let i = 0; i < 3; i++) driver.queue(0).send([bytes(i)], [1]);
    for (const chain of hold) answer(chain);
    expect(driver.vectors).toEqual([]);
    await Promise.resolve();
    expect([driver.vectors, driver.queue(0).allUsed().length]).toEqual([[1], 3]);
  });

  it("do not begin while the device rests", async () => {
    const { host, device } = make();
    const driver = drive(host).start();
    await device.rest();
    driver.queue(0).send([bytes(1)], [1]);
    expect(driver.queue(0).used()).toBe(undefined);
    device.wake();
    expect(driver.queue(0).allUsed().length).toBe(1);
  });
});
