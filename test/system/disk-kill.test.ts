// The VM process is killed amid heavy writes of its guest: everything that the guest was told of is
// there, in a raw image and in a qcow2 one, which is whole and at the next open without leaks.
// KILL_ROUNDS says how often; the image lives on from round to round.
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { ForegroundGuest } from "../guest/foreground.js";
import { projectRoot } from "../guest/paths.js";

const ROUNDS = Number(process.env.KILL_ROUNDS ?? 3);
/** As in disk-writer.c. */
const [PROCESSES, BLOCKS, STEP, BLOCK] = [8, 1024, 389, 4096];
let folder: string;
let writer: Buffer;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "xhyved-kill-"));
  const program = join(folder, "writer");
  const source = join(projectRoot, "test", "guest", "disk-writer.c");
  execFileSync("gcc", ["-O1", "-static", "-o", program, source]);
  writer = readFileSync(program);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** How far each process had been acknowledged, as far as the console says. */
function acknowledged(output: string): number[] {
  const last = Array<number>(PROCESSES).fill(0);
  for (const [, process, n] of output.matchAll(/^ack (\d+) (\d+)$/gm))
    last[Number(process)] = Math.max(last[Number(process)] ?? 0, Number(n));
  return last;
}

/** Every block holds its last acknowledged write, or a later one to the same block. */
function check(bytes: Buffer, last: readonly number[]): void {
  for (const [process, n] of last.entries()) {
    for (let write = Math.max(1, n - BLOCKS + 1); write <= n; write++) {
      const at = (process * BLOCKS + ((write * STEP) % BLOCKS)) * BLOCK;
      const words = new Uint32Array(
        bytes.buffer.slice(bytes.byteOffset + at, bytes.byteOffset + at + BLOCK),
      );
      const held = words[0] ?? 0;
      if (held < write || held % BLOCKS !== write % BLOCKS || words.some((word) => word !== held))
        throw new Error(`process ${process}, write ${write}: block ${at / BLOCK} holds ${held}`);
    }
  }
}

it.each(["raw", "qcow2"])(`keeps what was acknowledged, ${ROUNDS} times: %s`, async (format) => {
  const image = join(folder, `disk.${format}`);
  const raw = join(folder, "contents.raw");
  for (let round = 0; round < ROUNDS; round++) {
    execFileSync("qemu-img", ["create", "-q", "-f", format, image, "64M"]);
    const guest = await ForegroundGuest.start({
      folder,
      lines: ["/writer"],
      flags: ["-s", `3,virtio-blk,${image},format=${format}`],
      files: { writer },
    });
    await guest.waitFor(/^ack 7 \d+$/m, 120);
    await new Promise((resolve) => setTimeout(resolve, 100 + Math.random() * 900));
    await guest.kill();
    const last = acknowledged(guest.output);
    expect(Math.min(...last)).toBeGreaterThan(0);
    if (format === "qcow2") {
      const { status } = spawnSync("qemu-img", ["check", "-f", "qcow2", image], {
        stdio: "ignore",
      });
      expect([0, 3]).toContain(status);
    }
    execFileSync("qemu-img", ["convert", "-f", format, "-O", "raw", image, raw]);
    check(readFileSync(raw), last);
  }
  if (format === "raw") return;
  const guest = await ForegroundGuest.start({
    folder,
    lines: ["busybox dd if=/dev/zero of=/dev/vda bs=4k count=1"],
    flags: ["-s", `3,virtio-blk,${image},format=qcow2`],
  });
  expect(await guest.end(120)).toBe(1);
  execFileSync("qemu-img", ["check", "-f", "qcow2", image], { stdio: "ignore" }); // no leaks
});
