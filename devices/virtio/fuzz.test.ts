// Random register traffic and random rings against the transport with real devices behind it. The
// seed is printed by a failure; XHYVED_FUZZ_SEED and XHYVED_FUZZ_SECONDS choose others.
import { expect, it } from "vitest";
import { FakeHost } from "../fakes.js";
import { FakeDriver, type FakePci, type FakeQueue } from "./fake-driver.js";
import { type Fuzzed, pick, type Random, SLOT, SUBJECTS, type Subject } from "./fuzz-subjects.js";

const SEED = Number(process.env.XHYVED_FUZZ_SEED ?? 20240901);
const SECONDS = Number(process.env.XHYVED_FUZZ_SECONDS ?? 10);
const MIB = 2 ** 20;
const MEMORY = MIB;

function randomOf(seed: number): Random {
  let state = seed >>> 0 || 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

/** Mostly near what is meant, so that the deep paths are reached. */
const word = (random: Random): number =>
  [0, 1, 2, 3, 8, 0x10000, 0xffff, 0xffffffff, random(2 ** 16), random(2 ** 31), random(MEMORY)][
    random(11)
  ] ?? 0;

/** Overwrites parts of ring and descriptors with plausible nonsense. */
function spoil({ memory }: FakeHost, random: Random, at: number, length: number): void {
  const view = new DataView(memory.bytes.buffer);
  for (let i = random(8); i > 0; i--) {
    const place = at + (random(length) & ~1);
    if (random(2)) view.setUint16(place, word(random) & 0xffff, true);
    else if (place % 4 === 0) view.setUint32(place, word(random), true);
  }
}

function touchRegisters({ bus }: FakeHost, pci: FakePci, random: Random): void {
  const size = [1, 2, 4][random(3)] ?? 4;
  const [io, modern] = [pci.bar(0), pci.bar(2)];
  const offset = [random(0x40), 0x1000, 0x2000 + random(0x40), 0x3000 + random(8)][random(4)] ?? 0;
  if (random(3) === 0) bus.load(modern + offset, size);
  else if (random(2)) bus.store(modern + offset, word(random), size);
  else bus.out(io + random(0x60), word(random), size);
  bus.in(io + random(0x60), size);
  if (random(20) === 0) pci.setConfig(random(0x100) & ~3, word(random), 4);
}

/** Whatever happened: it is saved, restored elsewhere, and comes back to power-on. */
async function endOf({ device, check }: Fuzzed, subject: Subject): Promise<void> {
  await device.rest();
  check();
  const state = JSON.parse(JSON.stringify(device.save()));
  const other = subject.make(new FakeHost(MEMORY));
  other.device.restore(state);
  other.device.wake();
  device.wake();
  device.reset();
  expect(device.core.status).toBe(0);
  for (const one of [device, other.device]) one.core.dispose();
}

async function round(random: Random): Promise<void> {
  const host = new FakeHost(MEMORY);
  const subject = pick(random, SUBJECTS);
  const fuzzed = subject.make(host);
  const features = [28, 29, 34, ...subject.features].filter(() => random(2));
  const kind = subject.modern || random(4) ? "modern" : "legacy";
  const driver = new FakeDriver(host, {
    slot: SLOT,
    interface: kind,
    features,
    interrupts: "msix",
  });
  driver.start();
  for (let step = 0; step < 40; step++) {
    const { queue: index, readable, writable } = fuzzed.request(random);
    const queue = driver.queue(index);
    const { descriptors, driver: available } = queue.ring.areas;
    if (step < 20 || random(4)) addTo(queue, readable, writable);
    if (random(2)) spoil(host, random, descriptors, 512);
    if (random(2)) spoil(host, random, available, 64);
    queue.kick();
    fuzzed.disturb(random);
    if (random(4) === 0) touchRegisters(host, driver.pci, random);
    if (random(8) === 0) await new Promise((done) => setImmediate(done));
    const valid = (driver.status & ~0xff) === 0 || driver.status === 0xffffffff;
    expect(valid).toBe(true);
    fuzzed.check();
  }
  await endOf(fuzzed, subject);
}

/** A ring that has no slot left is none of the device's business. */
function addTo(queue: FakeQueue, readable: readonly Uint8Array[], writable: readonly number[]) {
  try {
    queue.add(readable, writable);
  } catch (error) {
    if (!(error instanceof Error && error.message.includes("full"))) throw error;
  }
}

it("no ring and no register access breaks the transport", {
  timeout: (SECONDS + 120) * 1000,
}, async () => {
  const end = Date.now() + SECONDS * 1000;
  let rounds = 0;
  for (let seed = SEED; Date.now() < end; seed++, rounds++) {
    try {
      await round(randomOf(seed));
    } catch (error) {
      throw new Error(`XHYVED_FUZZ_SEED=${seed}`, { cause: error });
    }
  }
  expect(rounds).toBeGreaterThan(10);
});
