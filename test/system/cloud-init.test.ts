// examples/cloud-init on a Debian server: the distribution's own cloud-init finds the seed, and does
// what it says.
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, it } from "vitest";
import { eventually, TestDaemon } from "../daemon/daemon.js";
import { debianImage } from "../guest/image.js";
import { projectRoot } from "../guest/paths.js";
import { copyOfImage } from "../guest/server.js";

const run = promisify(execFile);
const IMAGE_MS = 1_200_000;
const READY_S = 900;

let daemon: TestDaemon;
beforeAll(async () => {
  await debianImage();
  daemon = await TestDaemon.start();
}, IMAGE_MS);
afterAll(() => daemon.end());

/** All that the console has printed, up to cloud-init's last word: it tells of the keys after it is ready. */
const untilFinished = (): Promise<string> =>
  eventually(async () => {
    const printed = (await daemon.history("web-1")).toString().replaceAll("\r", "");
    return /Cloud-init v\..* finished at /.test(printed) && printed;
  }, READY_S);

it(
  "a server sets itself up by its seed, and once",
  async () => {
    const { kernel, initrd, privateKey } = await debianImage();
    const key = readFileSync(`${privateKey}.pub`, "utf8").trim();
    const env = {
      ...process.env,
      XHYVECTL: join(projectRoot, "bin", "xhyvectl"),
      XHYVED_SOCKET: daemon.socket,
      KERNEL: kernel,
      INITRD: initrd,
      DISK: await copyOfImage(join(daemon.folder, "server.raw")),
      KEY: key,
      LIMIT: String(READY_S),
    };
    const server = join(projectRoot, "examples", "cloud-init", "server.sh");
    const first = await run(server, [], { env });
    expect(first.stdout).toBe("web-1 created\nweb-1 is running\n");
    const printed = await untilFinished();
    expect(printed).toMatch(/\nDebian GNU\/Linux 12 web-1 ttyS0\n/); // the host's name, at the login
    const keys =
      /Authorized keys from \/home\/debian\/\.ssh\/authorized_keys [\s\S]*?ssh-ed25519 .* test /;
    expect(printed).toMatch(keys);
    expect(printed).toMatch(/\nset up as web-1\n/);
    expect(printed).not.toMatch(/cloud-init.*(WARNING|ERROR|Traceback)/);
    const second = await run(server, [], { env });
    expect(second.stdout).toBe("web-1 unchanged\nweb-1 is running\n");
  },
  (2 * READY_S + 60) * 1000,
);
