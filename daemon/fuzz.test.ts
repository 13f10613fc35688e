// Random requests against a real daemon: never a 5xx, never a dead or deaf one. XHYVED_FUZZ_SECONDS
// (10) and XHYVED_FUZZ_SEED (1) say how many, and which.
import { rmSync } from "node:fs";
import { expect, it } from "vitest";
import { type RawAnswer, TestDaemon } from "../test/daemon/daemon.js";
import { RequestMaker } from "../test/daemon/random-requests.js";

const SECONDS = Number(process.env.XHYVED_FUZZ_SECONDS ?? 10);
const SEED = Number(process.env.XHYVED_FUZZ_SEED ?? 1);
/** However slow the host is: by then each of the usual statuses has come. */
const LEAST_ANSWERS = 400;
/** A VM's process that has gone, or an image that is none, is a gateway's error, told as such. */
const EXPECTED_5XX: ReadonlySet<string> = new Set([
  "VM_PROCESS_GONE",
  "VM_START_FAILED",
  "VM_BUSY",
  "NOT_BUILT_YET",
  "FILE_COPY_FAILED",
  "STATE_WRITE_FAILED",
]);

it(
  `${SECONDS} s of random requests with seed ${SEED} get answers below 500`,
  async () => {
    const daemon = await TestDaemon.start();
    try {
      await daemon.create("off", "hello");
      await daemon.run("runs", "hello");
      const pid = daemon.pid;
      const maker = new RequestMaker(SEED, daemon.guestFile("hello"));
      const bad: string[] = [];
      const statuses = new Map<number, number>();
      const answers = (): number => [...statuses.values()].reduce((sum, n) => sum + n, 0);
      const end = Date.now() + SECONDS * 1000;
      const client = async (): Promise<void> => {
        while (Date.now() < end || answers() + bad.length < LEAST_ANSWERS) {
          const { method, path, headers, body } = maker.next();
          const what = `${method} ${path} ${JSON.stringify(headers)} ${String(body).slice(0, 2000)}`;
          const answer = await daemon
            .raw(method, path, { headers, ...(body === undefined ? {} : { body }) })
            .catch((error: unknown) => String(error));
          if (typeof answer === "string") bad.push(`${what}: ${answer}`);
          else {
            statuses.set(answer.status, (statuses.get(answer.status) ?? 0) + 1);
            if (isBad(answer)) bad.push(`${what}: ${answer.status} ${answer.text}`);
          }
        }
      };
      await Promise.all(Array.from({ length: 4 }, client));
      expect(bad.slice(0, 5)).toEqual([]);
      expect(daemon.pid).toBe(pid);
      expect((await daemon.raw("GET", "/v1/vms")).status).toBe(200);
      for (const status of [200, 400, 404, 409]) expect(statuses.get(status)).toBeGreaterThan(0);
    } finally {
      await daemon.end();
      rmSync(daemon.folder, { recursive: true, force: true });
    }
  },
  (SECONDS + 180) * 1000,
);

function isBad({ status, text }: RawAnswer): boolean {
  if (status < 500) return false;
  try {
    return !EXPECTED_5XX.has(String((JSON.parse(text) as { code?: unknown }).code));
  } catch {
    return true;
  }
}
