// A disk that is full while the console's history is written: the guest goes on, what is kept is
// whole, and what is lost is a gap that says so.
import { execFileSync } from "node:child_process";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { ConsoleNotice, parse } from "../../api-schema/index.js";
import { eventually, TestDaemon, temporaryFolder } from "../daemon/daemon.js";
import { PERIOD } from "../daemon/guests.js";

/** More than the guest prints while a busy host lets nobody else run. */
const DISK = 8 * 2 ** 20;
/** Of the guest's, of which each byte of output takes some: more than any buffer holds. */
const LOST_ACCESSES = 400_000;

let daemon: TestDaemon;
let disk = "";
beforeAll(async () => {
  const folder = temporaryFolder();
  disk = join(folder, "state", "vms");
  mkdirSync(disk, { recursive: true, mode: 0o700 });
  execFileSync("mount", ["-t", "tmpfs", "-o", `size=${DISK},mode=700`, "full-disk-test", disk]);
  daemon = await TestDaemon.start([], folder);
});
afterAll(async () => {
  await daemon.killAll();
  execFileSync("umount", ["-l", disk]);
  await daemon.end();
});

const positions = async (): Promise<{
  first: number;
  end: number;
  offset: number;
  body: Buffer;
}> => {
  const { headers, body } = await daemon.client.raw("GET", "/vms/a/console?offset=0&length=262144");
  const [first, end, offset] = ["first", "end", "offset"].map((name) =>
    Number(headers[`x-console-${name}`]),
  );
  return { first: first ?? 0, end: end ?? 0, offset: offset ?? 0, body };
};

async function accesses(): Promise<number> {
  const { vcpus } = await daemon.client.call("getVmStatistics", { vm: "a" });
  return vcpus[0]?.portAccesses ?? 0;
}

it("costs output, tells where, and nothing else", async () => {
  await daemon.create("a", "flood");
  const ballast = join(disk, "ballast");
  await daemon.start("a");
  await eventually(async () => (await positions()).end > 100_000, 300);
  writeFileSync(ballast, "");
  try {
    writeFileSync(ballast, Buffer.alloc(DISK));
  } catch {
    // it takes what there is
  }
  const atFull = await accesses();
  await eventually(async () => (await accesses()) - atFull > LOST_ACCESSES, 300);
  const full = await daemon.vm("a");
  expect(full.status.state).toBe("running");
  rmSync(ballast);

  const { first, offset, body } = await positions();
  expect(first).toBe(0);
  expect(offset).toBe(0);
  expect(body.findIndex((byte, index) => byte !== index % PERIOD)).toBe(-1);

  const notices: ConsoleNotice[] = [];
  const parts: Buffer[] = [];
  const socket = daemon.client.stream("/vms/a/console/stream?offset=0");
  let afterGap: Buffer[] | undefined;
  socket.on("message", (data: Buffer, binary: boolean) => {
    if (binary) (afterGap ?? parts).push(data);
    else {
      const notice = parse(ConsoleNotice, JSON.parse(data.toString()));
      notices.push(notice);
      if (notice.kind === "gap") afterGap ??= [];
    }
  });
  await eventually(() => (afterGap?.length ?? 0) > 0, 300);
  const gap = notices.find((notice) => notice.kind === "gap");
  const to = gap?.kind === "gap" ? gap.to : 0;
  console.log(`lost: ${to - Buffer.concat(parts).length} bytes`);
  expect(Buffer.concat(parts).length).toBe(gap?.kind === "gap" ? gap.from : -1);
  expect(afterGap?.[0]?.[0]).toBe(to % PERIOD);
  socket.close();
  expect(
    (await daemon.client.json<{ status: { state: string } }>("POST", "/vms/a/stop")).status.state,
  ).toBe("stopped");
});
