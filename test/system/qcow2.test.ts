// qcow2 with QEMU's tools as the peer: what is written here is read there and found whole, and the
// other way round, with clusters of many sizes, compressed ones, snapshots and backing images.
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { random } from "../../devices/block/fake-storage.js";
import { History } from "../../devices/block/qcow2/history.js";
import { Qcow2Rig } from "../../devices/block/qcow2/rig.js";

const SIZE = 2 ** 20;
let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "xhyved-qcow2-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const path = (name: string): string => join(folder, name);
const qemuImg = (...args: string[]): string => execFileSync("qemu-img", args, { encoding: "utf8" });
const load = (name: string): Uint8Array => new Uint8Array(readFileSync(path(name)));

/** Exit status 0: whole; 2: corrupt; 3: leaked clusters. */
const check = (name: string): number | null =>
  spawnSync("qemu-img", ["check", "-f", "qcow2", path(name)], { stdio: "ignore" }).status;

/** The disk as QEMU sees it. */
function contents(name: string): Uint8Array {
  qemuImg("convert", "-f", "qcow2", "-O", "raw", path(name), path(`${name}.raw`));
  return load(`${name}.raw`);
}

/** Random writes, zeros, discards by qemu-io; `compress` ones of whole clusters too. */
function mutate(name: string, seed: number, cluster: number, compress: boolean): void {
  const chance = random(seed);
  const commands: string[] = [];
  for (let i = 0; i < 40; i++) {
    const at = chance(SIZE / 512) * 512;
    const length = Math.min(SIZE - at, 512 * (1 + chance(128)));
    const pattern = 1 + chance(250);
    const aligned = Math.floor(at / cluster) * cluster;
    const kinds = [
      `write -P ${pattern} ${at} ${length}`,
      `write -P ${pattern} ${at} ${length}`,
      `write -z ${at} ${length}`,
      `write -z -u ${at} ${length}`,
      `discard ${at} ${length}`,
      compress ? `write -c -P ${pattern} ${aligned} ${cluster}` : "flush",
    ];
    commands.push(kinds[chance(kinds.length)] ?? "flush");
  }
  // A compressed write to a cluster that has data is refused, and the rest goes on.
  const args = commands.flatMap((command) => ["-c", command]);
  spawnSync("qemu-io", ["-f", "qcow2", ...args, path(name)], { stdio: "ignore" });
}

const IMAGES: readonly [name: string, cluster: number, options: string][] = [
  ["version 3", 65536, ""],
  ["version 2", 65536, "compat=0.10,"],
  ["small clusters", 512, ""],
  ["large clusters", 2 ** 21, ""],
  ["lazy refcounts", 4096, "lazy_refcounts=on,"],
  ["refcounts of one bit", 4096, "refcount_bits=1,"],
  ["refcounts of 64 bits", 4096, "refcount_bits=64,"],
];

describe.each(IMAGES)("%s", (_, cluster, options) => {
  const create = (name: string, ...more: string[]): string =>
    qemuImg(
      ...["create", "-q", "-f", "qcow2", "-o", `${options}cluster_size=${cluster}`],
      ...[...more, path(name), String(SIZE)],
    );

  it("what QEMU wrote is read here", async () => {
    for (let seed = 1; seed <= 6; seed++) {
      create("theirs");
      mutate("theirs", seed, cluster, true);
      const rig = new Qcow2Rig(random(seed), load("theirs"));
      expect(Buffer.compare(await rig.readAll(), contents("theirs")), `seed ${seed}`).toBe(0);
      rig.close();
    }
  });

  it("what is written here QEMU finds whole, and reads", async () => {
    for (let seed = 1; seed <= 4; seed++) {
      const chance = random(seed);
      create("ours");
      const rig = new Qcow2Rig(chance, load("ours"));
      const history = new History(rig, chance, new Uint8Array(SIZE));
      for (let round = 0; round < 2; round++) {
        await history.run({ operations: 60, together: 12, cancels: true });
        rig.close();
        writeFileSync(path("ours"), rig.storage.bytes);
        expect(check("ours"), `seed ${seed}`).toBe(0);
        history.check(contents("ours"));
      }
    }
  });
});

it("compressed clusters and snapshots survive being written over", async () => {
  for (let seed = 1; seed <= 8; seed++) {
    const chance = random(seed);
    qemuImg("create", "-q", "-f", "qcow2", "-o", "cluster_size=4096", path("old"), String(SIZE));
    mutate("old", seed, 4096, true);
    qemuImg("snapshot", "-c", "one", path("old"));
    const before = contents("old");
    const rig = new Qcow2Rig(chance, load("old"));
    for (let i = 0; i < 60; i++) {
      const at = chance(SIZE / 512) * 512;
      const bytes = new Uint8Array(Math.min(SIZE - at, 512 * (1 + chance(64)))).fill(i + 1);
      if (chance(4) === 0) await rig.zero(at, bytes.length, chance(2) === 0);
      else await rig.write(at, bytes);
      if (chance(6) === 0) await rig.flush();
    }
    const now = await rig.readAll();
    rig.close();
    writeFileSync(path("new"), rig.storage.bytes);
    expect(check("new"), `seed ${seed}`).toBe(0);
    expect(Buffer.compare(contents("new"), now)).toBe(0);
    qemuImg("snapshot", "-a", "one", path("new"));
    expect(Buffer.compare(contents("new"), before), `seed ${seed}: the snapshot`).toBe(0);
  }
});

it("an image that another program left dirty is mended", async () => {
  const args = ["-c", "write -P 7 0 300k", "-c", "abort"];
  const lazy = "lazy_refcounts=on,cluster_size=4096";
  qemuImg("create", "-q", "-f", "qcow2", "-o", lazy, path("dirty"), String(SIZE));
  spawnSync("qemu-io", ["-f", "qcow2", "-t", "writeback", ...args, path("dirty")], {
    stdio: "ignore",
  });
  const rig = new Qcow2Rig(random(1), load("dirty"));
  const held = await rig.readAll();
  await rig.write(500 * 1024, new Uint8Array(512).fill(9));
  rig.close();
  writeFileSync(path("dirty"), rig.storage.bytes);
  expect(check("dirty")).toBe(0);
  held.fill(9, 500 * 1024, 500 * 1024 + 512);
  expect(Buffer.compare(contents("dirty"), held)).toBe(0);
});

it("after a loss of power QEMU finds no corruption", async () => {
  for (let seed = 1; seed <= 10; seed++) {
    const chance = random(seed);
    const rig = new Qcow2Rig(chance, { size: SIZE, clusterSize: seed % 2 ? 4096 : 512 });
    rig.storage.settle();
    await new History(rig, chance, new Uint8Array(SIZE)).run({ operations: 60, together: 8 });
    rig.close();
    for (let cut = 0; cut < 4; cut++) {
      const time = chance(rig.storage.time + 1);
      writeFileSync(path("cut"), rig.storage.lostPowerAt(time, chance));
      expect([0, 3], `seed ${seed} at ${time}`).toContain(check("cut"));
    }
  }
});
