import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { type NetworkHost, networkFault } from "./check.js";

const folder = mkdtempSync(join(tmpdir(), "xhyved-check-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const interfaces = join(folder, "net");
for (const path of ["br0/bridge", "eth0", "tap0"])
  mkdirSync(join(interfaces, path), { recursive: true });
writeFileSync(join(interfaces, "tap0", "tun_flags"), "0x5002\n");
const programs = join(folder, "bin");
mkdirSync(programs);
writeFileSync(join(programs, "passt"), "", { mode: 0o755 });

const linux: NetworkHost = { platform: "linux", interfaces, path: `/nowhere:${programs}` };
const mac: NetworkHost = { ...linux, platform: "darwin", interfaces: join(folder, "none") };

describe("what speaks against a card from outside", () => {
  it("is a bridge that is not there, or is none", () => {
    expect(networkFault({ kind: "tap", bridge: "br0" }, linux)).toBeUndefined();
    expect(networkFault({ kind: "tap", bridge: "br1" }, linux)).toMatch(/no bridge br1: make it/);
    expect(networkFault({ kind: "tap", bridge: "eth0" }, linux)).toBe(
      "the interface eth0 is no bridge",
    );
  });

  it("is an interface that is no tap; one that is not there will be made", () => {
    expect(networkFault({ kind: "tap", interface: "tap0" }, linux)).toBeUndefined();
    expect(networkFault({ kind: "tap", interface: "tap7" }, linux)).toBeUndefined();
    expect(networkFault({ kind: "tap", interface: "eth0" }, linux)).toMatch(/eth0 .* no tap/);
    expect(networkFault({ kind: "tap", interface: "eth0" }, mac)).toBeUndefined();
  });

  it("is vmnet on another system, or bridged to nothing", () => {
    expect(networkFault({ kind: "vmnet" }, linux)).toMatch(/macOS/);
    expect(networkFault({ kind: "vmnet", mode: "bridged" }, mac)).toMatch(/needs an interface/);
    expect(networkFault({ kind: "vmnet", mode: "bridged", interface: "en0" }, mac)).toBeUndefined();
  });

  it("is passt where it is not installed", () => {
    expect(networkFault({ kind: "user" }, linux)).toBeUndefined();
    expect(networkFault({ kind: "user" }, { ...linux, path: folder })).toMatch(/not installed/);
  });

  it("is a socket that is not there, or is none", async () => {
    const socket = join(folder, "frames");
    expect(networkFault({ kind: "stream", socket })).toMatch(/frames: /);
    expect(networkFault({ kind: "stream", socket: folder })).toMatch(/is no socket/);
    const server = createServer().listen(socket);
    await new Promise((resolve) => server.once("listening", resolve));
    expect(networkFault({ kind: "stream", socket })).toBeUndefined();
    server.close();
  });

  it("is nothing for switches and loose cables", () => {
    expect(networkFault({ kind: "switch", network: "lan" })).toBeUndefined();
    expect(networkFault({ kind: "none" })).toBeUndefined();
  });
});
