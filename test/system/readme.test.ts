// The README's session with curl works line by line as printed: each command of its `sh` block runs
// in one shell, and what it prints is what the README says, `…` standing for anything.
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { eventually, TestDaemon } from "../daemon/daemon.js";
import { projectRoot } from "../guest/paths.js";
import { type Images, linuxImages } from "./linux.js";

let daemon: TestDaemon;
let images: Images;
beforeAll(async () => {
  daemon = await TestDaemon.start();
  images = await linuxImages(daemon.folder);
});
afterAll(() => daemon.end());

interface Step {
  readonly command: string;
  readonly answer: string;
}

function session(): Step[] {
  const readme = readFileSync(join(projectRoot, "README.md"), "utf8");
  const blocks = [...readme.matchAll(/^```sh\n(.*?)^```$/gms)].map(([, block]) => block ?? "");
  return blocks
    .join("\n")
    .split(/^\$ /m)
    .slice(1)
    .map((text) => {
      const end = text.indexOf("\n");
      return { command: text.slice(0, end), answer: text.slice(end + 1).trim() };
    });
}

const pattern = (answer: string): RegExp =>
  new RegExp(`^${answer.split("…").map(literally).join(".*")}$`, "s");

const literally = (text: string): string => text.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&");

function shell(command: string): Promise<string> {
  const env = {
    ...process.env,
    SOCKET: daemon.socket,
    KERNEL: images.kernel,
    INITRD: images.initrd,
  };
  const child = spawn("sh", ["-c", command], { env, stdio: ["ignore", "pipe", "inherit"] });
  let text = "";
  child.stdout.on("data", (data: Buffer) => {
    text += data.toString();
  });
  return new Promise((resolve) => child.once("close", () => resolve(text.trim())));
}

it("the README's commands print what it says", async () => {
  const steps = session();
  expect(steps.length).toBeGreaterThan(10);
  for (const { command, answer } of steps) {
    const printed = await shell(command);
    expect(printed, command).toMatch(pattern(answer));
    if (command.includes("/start")) await untilItPrints();
  }
});

/** A person reads the answer before typing on; the guest has begun to print by then. */
async function untilItPrints(): Promise<void> {
  await eventually(async () => {
    const { headers } = await daemon.client.raw("GET", "/vms/web/console?length=1");
    return Number(headers["x-console-end"]) > 100;
  }, 120);
}
