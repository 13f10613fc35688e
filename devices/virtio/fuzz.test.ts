// Random register traffic and random rings against the transport with a real device behind it. The
// seed is printed by a failure; XHYVED_FUZZ_SEED and XHYVED_FUZZ_SECONDS choose others.
import { expect, it } from "vitest";
import { RawBackend } from "../block/raw.js";
import { FakeHost } from "../fakes.js";
import { PciBus } from "../pci/bus.js";
import { virtioBlk } from "../virtio-blk/model.js";
import { FakeDriver, type FakePci } from "./fake-driver.js";
import { VirtioPci } from "./pci.js";

const SEED = Number(process.env.XHYVED_FUZZ_SEED ?? 20240901);
const SECONDS = Number(process.env.XHYVED_FUZZ_SECONDS ?? 10);
const MIB = 2 ** 20;
const MEMORY = MIB;
const SLOT = 4;
const FD = 3;

type Random = (below: number) => number;
function randomOf(seed: number): Random {
  let state = seed >>> 0 || 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

function make() {
  const host = new FakeHost(MEMORY);
  host.io.put(FD, new Uint8Array(65536));
  const geometry = { size: 65536, logicalSector: 512, physicalSector: 512, readOnly: false };
  const backend = new RawBackend({ file: host.io.file(FD), geometry, clock: host.clock });
  const log: string[] = [];
  const device = new VirtioPci(
    host,
    new PciBus(host),
    virtioBlk,
    { backend, serial: "x", queues: 2 },
    {
      name: "fuzzed",
      address: { bus: 0, slot: SLOT, fn: 0 },
      msix: true,
      log: (text) => void log.push(text),
    },
  );
  return { host, device, log };
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

async function round(random: Random): Promise<void> {
  const { host, device } = make();
  const features = [28, 29, 34].filter(() => random(2));
  const kind = random(4) ? "modern" : "legacy";
  const driver = new FakeDriver(host, {
    slot: SLOT,
    interface: kind,
    features,
    interrupts: "msix",
  });
  driver.start();
  for (let step = 0; step < 40; step++) {
    const queue = driver.queue(random(2));
    const { descriptors, driver: available } = queue.ring.areas;
    const header = Uint8Array.from({ length: 16 }, (_, i) => (i === 0 ? random(14) : 0));
    if (step < 20) queue.add([header, new Uint8Array(512 * random(3))], [512 * random(3), 1]);
    spoil(host, random, descriptors, 512);
    spoil(host, random, available, 64);
    queue.kick();
    if (random(4) === 0) touchRegisters(host, driver.pci, random);
    if (random(8) === 0) await Promise.resolve();
    const valid = (driver.status & ~0xff) === 0 || driver.status === 0xffffffff;
    expect(valid).toBe(true);
  }
  const state = JSON.parse(JSON.stringify(device.save()));
  make().device.restore(state);
  device.reset();
  expect(device.core.status).toBe(0);
}

it("no ring and no register access breaks the transport", {
  timeout: (SECONDS + 20) * 1000,
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
