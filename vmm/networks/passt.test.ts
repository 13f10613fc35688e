// passt's start, with programs of that name that do what a test wants.
import { chmodSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import type { PortForward } from "../../api-schema/network.js";
import { FakeHost } from "../../devices/fakes.js";
import { FakeNet, FakePort } from "../../devices/net/fakes.js";
import type { NetPort } from "../../native/types.js";
import { openUser } from "./passt.js";

const PATH = process.env.PATH ?? "";
let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "xhyved-passt-"));
});
afterEach(() => {
  process.env.PATH = PATH;
  rmSync(folder, { recursive: true });
});

class Pairs extends FakeNet {
  readonly made: FakePort[] = [];
  override pair(): { port: NetPort; fd: number } {
    const port = new FakePort(new FakeHost(4096).memory);
    this.made.push(port);
    return { port, fd: openSync("/dev/null", "r+") };
  }
}

/** A shell script in the place of passt. */
function passt(script: string): void {
  writeFileSync(join(folder, "passt"), `#!/bin/sh\n${script}\n`);
  chmodSync(join(folder, "passt"), 0o755);
  process.env.PATH = `${folder}${delimiter}${PATH}`;
}

async function open(...forwards: PortForward[]) {
  const net = new Pairs(new FakeHost(4096).memory);
  const backend = await openUser({ net, forwards, log: () => {} }).catch((error: Error) => error);
  return { net, backend };
}

it("hands over its end of the connection and the forwards, each protocol its own", async () => {
  passt(`echo "$@" > ${folder}/said; test -e /dev/fd/3 && echo connected >> ${folder}/said`);
  const { backend } = await open(
    { protocol: "tcp", host: 2222, guest: 22 },
    { protocol: "tcp", address: "::1", host: 80, guest: 8080 },
  );
  expect(backend).toMatchObject({ kind: "user", fault: undefined });
  expect(readFileSync(join(folder, "said"), "utf8")).toBe(
    "--quiet --no-map-gw --fd 3 -t 127.0.0.1/2222:22 -t ::1/80:8080 -u none\nconnected\n",
  );
});

it("says all that passt says of what it cannot do, and closes the port", async () => {
  passt("echo 'Failed to bind port 22' >&2; echo '(Permission denied)' >&2; exit 1");
  const { net, backend } = await open({ protocol: "tcp", host: 22, guest: 22 });
  expect(String(backend)).toBe("Error: Failed to bind port 22\n(Permission denied)");
  expect(net.made.map(({ closed }) => closed)).toEqual([true]);
});

it("says how passt ended where it says nothing", async () => {
  passt("exit 3");
  expect(String((await open()).backend)).toBe("Error: passt ended with 3");
  passt("kill -9 $$");
  expect(String((await open()).backend)).toBe("Error: passt ended with SIGKILL");
});

it("says what to install where there is no passt", async () => {
  process.env.PATH = folder;
  const { net, backend } = await open();
  expect(String(backend)).toContain("passt is not installed: install the package passt");
  expect(net.made.map(({ closed }) => closed)).toEqual([true]);
});

it("refuses forwards that cannot be before it begins", async () => {
  passt("exit 0");
  const same = { protocol: "udp", host: 53, guest: 53 } as const;
  const { net, backend } = await open(same, { ...same, address: "127.0.0.1", guest: 54 });
  expect(String(backend)).toContain("forwards[1]: udp port 53 of 127.0.0.1 is forwards[0]'s");
  expect(net.made).toEqual([]);
});
