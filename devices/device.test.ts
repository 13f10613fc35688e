import { expect, it } from "vitest";
import { checkDevice, type Device, DeviceSet } from "./device.js";
import { FakeHost } from "./fakes.js";
import { defineBlock, RegisterFile } from "./registers.js";
import { base64, flag, int, list, nanoseconds, optional, record } from "./state.js";

class Cell implements Device {
  readonly name: string;
  readonly stateVersion = 3;
  value = 0;
  disposed: string[];
  constructor(name: string, disposed: string[] = []) {
    this.name = name;
    this.disposed = disposed;
  }
  reset(): void {
    this.value = 0;
  }
  save(): unknown {
    return { value: this.value };
  }
  restore(state: unknown): void {
    this.value = record({ value: int(0, 9) })(state, this.name).value;
  }
  dispose(): void {
    this.disposed.push(this.name);
  }
}

it("a device without versioned state cannot be registered", () => {
  // @ts-expect-error: it has no state at all
  expect(() => checkDevice({ name: "x", reset: () => {} })).toThrow("stateVersion");
  const broken = { ...new Cell("x"), stateVersion: 0, reset() {}, save: () => ({}), restore() {} };
  expect(() => checkDevice(broken)).toThrow("x: stateVersion");
  expect(() => checkDevice({ ...broken, stateVersion: 1, save: () => undefined })).toThrow(
    "nothing",
  );
  let n = 0;
  expect(() => checkDevice({ ...broken, stateVersion: 1, save: () => n++ })).toThrow("survive");
  expect(() => checkDevice(new Cell("No Name"))).toThrow("device name");
});

it("a set saves in order, restores all or nothing, and disposes backwards", () => {
  const disposed: string[] = [];
  const set = new DeviceSet();
  const a = set.add(new Cell("a", disposed));
  const b = set.add(new Cell("b", disposed));
  expect(() => set.add(new Cell("a"))).toThrow("two devices are named a");
  a.value = 4;
  expect(set.save()).toEqual({
    a: { version: 3, state: { value: 4 } },
    b: { version: 3, state: { value: 0 } },
  });
  const component = (value: number) => ({ version: 3, state: { value } });
  expect(() => set.restore({ a: component(7), b: component(10) })).toThrow(
    "b.value: an integer from 0 to 9",
  );
  expect(a.value).toBe(4);
  expect(() => set.restore({ a: component(7) })).toThrow("b: missing");
  expect(() => set.restore({ a: component(7), b: component(1), c: component(1) })).toThrow(
    "c: no such",
  );
  expect(() => set.restore({ a: component(7), b: { version: 2, state: {} } })).toThrow(
    "b.version: 3",
  );
  set.restore({ a: component(7), b: component(8) });
  expect([a.value, b.value]).toEqual([7, 8]);
  set.reset();
  expect([a.value, b.value]).toEqual([0, 0]);
  set.dispose();
  expect(disposed).toEqual(["b", "a"]);
});

it("shapes say where and what is wrong", () => {
  const shape = record({
    on: flag,
    at: optional(nanoseconds),
    bytes: base64(2),
    more: list(int(0, 3), 2),
  });
  const good = { on: true, at: "12", bytes: "AAE=", more: [1, 2] };
  expect(shape(good, "d")).toEqual(good);
  for (const [field, value, message] of [
    ["on", 1, "d.on: true or false"],
    ["at", "-1", "d.at: nanoseconds"],
    ["at", undefined, "d.at: nanoseconds"],
    ["bytes", "AAEC", "d.bytes: base64 of 2 bytes"],
    ["bytes", "!!!!", "d.bytes: base64"],
    ["more", [1, 2, 3], "d.more: a list of 0 to 2"],
    ["more", [1, 4], "d.more[1]: an integer from 0 to 3"],
    ["more", [1, 1.5], "d.more[1]"],
  ] as const)
    expect(() => shape({ ...good, [field]: value }, "d")).toThrow(message);
});

it("a register block is checked when it is declared", () => {
  const register = { at: 0, width: 2, access: "rw", cite: "" } as const;
  expect(() => defineBlock("b", 4, { r: { ...register, at: 1 } })).toThrow("b.r: offset 1");
  expect(() => defineBlock("b", 4, { r: { ...register, at: 4 } })).toThrow("b.r: ends past 4");
  expect(() => defineBlock("b", 4, { r: register, s: register })).toThrow("b.s overlaps r");
});

it("a register file keeps access classes, masks and lanes", () => {
  const seen: number[][] = [];
  const file = new RegisterFile(
    defineBlock("b", 8, {
      id: { at: 0, width: 2, access: "ro", reset: 0x1234, cite: "" },
      mode: { at: 2, width: 1, access: "rw", writable: 0x0f, cite: "" },
      status: { at: 4, width: 4, access: "w1c", reset: 0xf000000f, writable: 0xf0000001, cite: "" },
    }),
    { mode: (now, before) => seen.push([now, before]) },
  );
  file.write(0, 4, 0xffffffff);
  expect([file.read(0, 4), file.read(3, 1)]).toEqual([0x000f1234, 0]);
  file.write(4, 4, 0x8000000f);
  expect(file.read(4, 4)).toBe(0x7000000e);
  file.write(7, 1, 0x10);
  expect([file.read(4, 4), file.read(6, 2)]).toEqual([0x6000000e, 0x6000]);
  expect(seen).toEqual([[0x0f, 0]]);
  file.reset();
  expect([file.get("mode"), file.get("status")]).toEqual([0, 0xf000000f]);
});

it("the fake bus keeps the real one's order rules", () => {
  const { bus } = new FakeHost();
  bus.eager = false;
  const log: string[] = [];
  const handler = (name: string) => ({
    read: () => log.push(`${name} read`),
    write: (offset: number) => log.push(`${name} write ${offset}`),
    doorbell: (offset: number) => log.push(`${name} doorbell ${offset}`),
  });
  const ways = [
    { at: 0, length: 1, read: "shadow", write: "posted" },
    { at: 1, length: 1, read: "stable", write: "doorbell" },
    { at: 2, length: 1, read: "direct", write: "ignored" },
  ] as const;
  const range = bus.map({ name: "a", space: "pio", base: 0x10, length: 4, ways }, handler("a"));
  range.shadow.setUint8(0, 7);
  range.shadow.setUint8(1, 8);
  expect([bus.in(0x10), bus.in(0x11)]).toEqual([7, 8]);
  bus.out(0x10, 1);
  bus.out(0x11, 1);
  bus.out(0x12, 1);
  expect([bus.in(0x11), log]).toEqual([8, []]);
  bus.in(0x10);
  expect(log).toEqual(["a write 0", "a doorbell 1", "a read"]);
  expect(() => bus.map({ name: "b", space: "pio", base: 0x13, length: 2 }, handler("b"))).toThrow(
    RangeError,
  );
  const other = bus.map({ name: "b", space: "mmio", base: 0x13, length: 2 }, handler("b"));
  other.enable(false);
  expect(bus.load(0x13, 1)).toBe(0xff);
});

it("rests when every device that can rest does, and wakes them", async () => {
  const calls: string[] = [];
  const plain = (name: string): Device => ({
    name,
    stateVersion: 1,
    save: () => ({}),
    restore: () => {},
    reset: () => {},
  });
  const resting = {
    ...plain("busy"),
    rest: async () => {
      await Promise.resolve();
      calls.push("rested");
    },
    wake: () => void calls.push("woke"),
  };
  const set = new DeviceSet();
  set.add(plain("plain"));
  set.add(resting);
  await set.rest();
  calls.push("all");
  set.wake();
  expect(calls).toEqual(["rested", "all", "woke"]);
});
