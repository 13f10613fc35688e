// The seed as other programs read it: the names and bytes by isoinfo and xorriso where they are, the
// label by blkid, and cloud-init's own words.
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parse } from "yaml";
import type { CloudInit } from "../../api-schema/index.js";
import { iso9660 } from "./iso9660.js";
import { seedOf } from "./seed.js";

const uuid = "01234567-89ab-cdef-0123-456789abcdef";
const lacks = (program: string): boolean => spawnSync(program, ["--version"]).error !== undefined;

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "seed-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function onDisk(name: string, bytes: Uint8Array): string {
  const path = join(folder, name);
  writeFileSync(path, bytes);
  return path;
}

/** A file of the first folder by its Rock Ridge name, found by ECMA-119's own words. */
function fileIn(disc: Buffer, name: string): string | undefined {
  const root = disc.readUInt32LE(16 * 2048 + 156 + 2) * 2048;
  for (let at = root; disc[at] !== 0; at += disc[at] ?? 0) {
    const whole = disc.subarray(at, at + (disc[at] ?? 0));
    const used = whole.subarray(33 + (whole[32] ?? 0)).toString("latin1");
    if (!used.includes(`NM${String.fromCharCode(5 + name.length)}\u0001\u0000${name}`)) continue;
    const from = whole.readUInt32LE(2) * 2048;
    return disc.subarray(from, from + whole.readUInt32LE(10)).toString("utf8");
  }
  return undefined;
}

const seed = (cloudInit: CloudInit, name = "web-1"): Buffer => seedOf({ name, uuid, cloudInit });
const meta = (disc: Buffer) => parse(fileIn(disc, "meta-data") ?? "") as Record<string, unknown>;

describe("the disc", () => {
  const long = Buffer.alloc(5000, "x");
  const disc = iso9660("CIDATA", [
    { name: "user-data", bytes: long },
    { name: "meta-data", bytes: Buffer.from("m\n") },
    { name: "empty", bytes: Buffer.alloc(0) },
  ]);

  it.skipIf(lacks("isoinfo"))(
    "has the names and bytes that isoinfo reads, in all three ways",
    () => {
      const path = onDisk("disc.iso", disc);
      const isoinfo = (...args: string[]) =>
        execFileSync("isoinfo", ["-i", path, ...args], { encoding: "latin1" });
      expect(isoinfo("-d")).toMatch(
        /Volume id: CIDATA\n[\s\S]*Volume size is: 30\n[\s\S]*Joliet with UCS level 3 found[\s\S]*Rock Ridge signatures version 1 found/,
      );
      expect(isoinfo("-f").split("\n").sort().join(" ")).toBe(
        " /EMPTY.;1 /META_DAT.;1 /USER_DAT.;1",
      );
      const posix = isoinfo("-R", "-l");
      expect(posix).toMatch(/-r-------- +1 +0 +0 +5000 .* user-data/);
      expect(posix).toMatch(/-r-------- +1 +0 +0 +2 .* meta-data/);
      expect(posix).toMatch(/-r-------- +1 +0 +0 +0 .* empty/);
      expect(isoinfo("-J", "-f")).toMatch(/\/empty(;1)?\n\/meta-data(;1)?\n\/user-data(;1)?\n/);
      expect(isoinfo("-R", "-x", "/user-data")).toBe(long.toString());
      expect(isoinfo("-J", "-x", "/meta-data;1") || isoinfo("-J", "-x", "/meta-data")).toBe("m\n");
    },
  );

  it.skipIf(lacks("blkid"))("is found by its label", () => {
    const shown = execFileSync("blkid", ["-p", "-o", "export", onDisk("label.iso", disc)]);
    expect(shown.toString()).toMatch(/LABEL=CIDATA\n[\s\S]*TYPE=iso9660/);
  });

  it("refuses names that are the same in capitals of eight letters", () => {
    const bytes = Buffer.alloc(1);
    const alike = ["user-data-a", "user-data-b"].map((name) => ({ name, bytes }));
    expect(() => iso9660("X", alike)).toThrow(RangeError);
  });
});

describe("the seed", () => {
  it("says what cloud-init asks for, also where the definition says nothing", () => {
    const bare = seed({});
    expect(fileIn(bare, "user-data")).toBe("#cloud-config\n{}\n");
    expect(meta(bare)).toMatchObject({ "local-hostname": "web-1" });
    expect(fileIn(bare, "network-config")).toBeUndefined();
    expect(meta(seed({}, "under_score"))).not.toHaveProperty("local-hostname");
  });

  it("carries scripts as they are, and objects as a cloud-config", () => {
    const script = "#!/bin/sh\necho ünïcode\n";
    expect(fileIn(seed({ userData: script }), "user-data")).toBe(script);
    const config = { runcmd: [["echo", "a: b #c"]], packages: ["curl"] };
    const text = fileIn(seed({ userData: config }), "user-data") ?? "";
    expect(text.startsWith("#cloud-config\n")).toBe(true);
    expect(parse(text)).toEqual(config);
    const networkConfig = { version: 2, ethernets: { nics: { dhcp4: true } } };
    expect(parse(fileIn(seed({ networkConfig }), "network-config") ?? "")).toEqual(networkConfig);
  });

  it("has keys and names, over which the client's own meta-data lie", () => {
    const sshAuthorizedKeys = ["ssh-ed25519 AAAA me@here"];
    const given = seed({ sshAuthorizedKeys, hostname: "db.example", metaData: { dsmode: "net" } });
    expect(meta(given)).toMatchObject({
      "local-hostname": "db.example",
      "public-keys": sshAuthorizedKeys,
      dsmode: "net",
    });
    expect(meta(seed({ metaData: { "instance-id": "mine" } }))["instance-id"]).toBe("mine");
  });

  it("is the same instance until it says something else", () => {
    const id = (cloudInit: CloudInit, name?: string) => meta(seed(cloudInit, name))["instance-id"];
    const first = id({ userData: { a: 1, b: 2 } });
    expect(first).toMatch(new RegExp(`^${uuid}-[0-9a-f]{12}$`));
    expect(id({ userData: { b: 2, a: 1 }, slot: "9:0" }, "renamed")).toBe(first);
    expect(id({ userData: { a: 1, b: 3 } })).not.toBe(first);
    expect(seed({ hostname: "x" }).equals(seed({ hostname: "x" }))).toBe(true);
  });
});
