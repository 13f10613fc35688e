import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { parse } from "../../api-schema/validate.js";
import { LaunchFile } from "../../api-schema/vm-process.js";
import { allows, read } from "./fake-sandbox.js";
import { type Need, quoted, sandboxProfile, uses } from "./sandbox.js";
import { needsOf } from "./sandbox-needs.js";

const UUID = "01234567-89ab-cdef-0123-456789abcdef";

describe("a profile without needs", () => {
  const profile = sandboxProfile([]);

  it.each([
    ["process-exec", { path: "/bin/sh" }],
    ["process-exec*", {}],
    ["process-fork", {}],
    ["mach-lookup", {}],
    ["mach-register", {}],
    ["iokit-open", {}],
    ["sysctl-write", {}],
    ["signal", { target: "others" }],
    ["process-info-pidinfo", { target: "others" }],
    ["nvram-get", {}],
    ["file-read-data", { path: "/etc/passwd" }],
    ["file-read-data", { path: "/Users/someone/.ssh/id_ed25519" }],
    ["file-read-data", { path: "/System/Volumes/Data/Users/someone/secret" }],
    ["file-read-data", { path: "/dev/disk0" }],
    ["file-write-create", { path: "/private/tmp/x" }],
    ["file-write-data", { path: "/dev/random" }],
    ["file-map-executable", { path: "/private/tmp/evil.dylib" }],
    ["network-outbound", { remote: "/private/var/run/mDNSResponder" }],
    ["network-outbound", {}],
    ["network-inbound", {}],
    ["network-bind", { local: "/private/tmp/socket" }],
    ["system-socket", { domain: "AF_INET" }],
  ] as const)("does not allow %s of %o", (operation, request) => {
    expect(allows(profile, operation, request)).toBe(false);
  });

  it.each([
    ["sysctl-read", {}],
    ["signal", { target: "self" }],
    ["process-info-pidinfo", { target: "self" }],
    ["dynamic-code-generation", {}],
    ["file-map-executable", { path: "/usr/lib/libSystem.B.dylib" }],
    ["file-read-data", { path: "/private/var/db/timezone/zoneinfo/UTC" }],
    ["file-read-data", { path: "/dev/urandom" }],
    ["file-read-data", { path: "/dev/fd/7" }],
    ["file-ioctl", { path: "/dev/ttys003" }],
    ["system-socket", { domain: "AF_UNIX" }],
  ] as const)("allows %s of %o", (operation, request) => {
    expect(allows(profile, operation, request)).toBe(true);
  });

  it("denies by default in its second form, before anything is allowed", () => {
    expect(read(profile).slice(0, 2)).toEqual([
      ["version", "1"],
      ["deny", "default"],
    ]);
  });
});

describe("a need", () => {
  const path = "/vms/one";
  const of = (use: Need["use"]) => sandboxProfile([{ use, path }]);

  it.each([
    ["own", "file-write-create", { path: `${path}/state/memory` }, true],
    ["own", "file-write-create", { path: `${path}-other/state` }, false],
    ["file", "file-write-unlink", { path }, true],
    ["file", "file-write-create", { path: `${path}/beneath` }, false],
    ["history", "file-write-create", { path: `${path}.0000000000065536` }, true],
    ["history", "file-write-create", { path: `${path}.sh` }, false],
    ["history", "file-write-create", { path: `${path}x0000000000065536` }, false],
    ["history", "file-write-create", { path: `/elsewhere${path}.00` }, false],
    ["disk", "file-write-data", { path }, true],
    ["disk", "file-read-data", { path }, false],
    ["disk", "file-write-unlink", { path }, false],
    ["folder", "file-read-data", { path }, true],
    ["folder", "file-read-data", { path: `${path}/beneath` }, false],
    ["folder", "file-write-create", { path }, false],
    ["listener", "network-inbound", { local: path }, true],
    ["listener", "network-outbound", { remote: path }, false],
    ["listener", "file-write-unlink", { path }, true],
    ["server", "network-outbound", { remote: path }, true],
    ["server", "network-outbound", { remote: `${path}x` }, false],
    ["server", "file-write-unlink", { path }, false],
    ["ports", "network-outbound", { remote: `${path}_1024` }, true],
    ["ports", "network-outbound", { remote: path }, false],
    ["ports", "network-outbound", { remote: `${path}_1024x` }, false],
    ["switch", "network-inbound", { local: `${path}/52:54:00:00:00:01` }, true],
    ["switch", "network-inbound", { local: "/vms/other/52:54:00:00:00:01" }, false],
    ["switch", "file-write-create", { path: `${path}/x` }, false],
  ] as const)("of the use %s: %s of %o is %s", (use, operation, request, answer) => {
    expect(allows(of(use), operation, request)).toBe(answer);
  });
});

describe("hostile names", () => {
  const hostile = [
    'quote"',
    "back\\slash",
    "back\\",
    '"))\n(allow default)\n(allow file-read* (literal "',
    "))(allow process-exec)((",
    "new\nline\r\ttab",
    "; a comment",
    '\\"))(allow default)',
    "#t 'quote `quasi ,unquote",
    "\u0001\u001f\u007f",
    "\\x41\\n",
    "Grüße 漢字 🙂",
    "^$.*+?|[a-z]{1,2}(x)\\d",
  ];

  it.each(hostile)("%j names itself and nothing else, for every use", (name) => {
    const path = `/vms/${name}`;
    const profile = sandboxProfile(uses.map((use) => ({ use, path })));
    const named = { path, remote: path, local: path };
    expect(allows(profile, "file-write-unlink", named)).toBe(true);
    expect(allows(profile, "network-outbound", named)).toBe(true);
    expect(allows(profile, "network-outbound", { remote: `${path}_5` })).toBe(true);
    expect(allows(profile, "file-write-create", { path: `${path}.01` })).toBe(true);
    for (const other of ["/vms/", "/vms/a", "/vms/\\d", "/etc/passwd", "/bin/sh"]) {
      expect(allows(profile, "file-read-data", { path: other })).toBe(false);
      expect(allows(profile, "network-outbound", { remote: other })).toBe(false);
    }
    expect(allows(profile, "process-exec", { path: "/bin/sh" })).toBe(false);
    const harmless = sandboxProfile(uses.map((use) => ({ use, path: "/vms/name" })));
    expect(read(profile).length).toBe(read(harmless).length);
  });

  it.each(hostile)("%j is quoted on one line, as printable characters", (name) => {
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
    expect(quoted(name)).not.toMatch(/[\u0000-\u001f\u007f]/);
    expect(quoted(name)).toMatch(/^"(?:[^"\\]|\\["\\]|\\x[0-9a-f]{2})*"$/);
  });
});

describe("the needs of a VM", () => {
  let folder: string;
  beforeEach(() => {
    folder = realpathSync(mkdtempSync(join(tmpdir(), "sandbox-")));
    for (const name of ["run", "kept", "disks"]) mkdirSync(join(folder, name));
    process.env.XHYVED_NETWORKS = join(folder, "networks");
  });
  afterEach(() => {
    delete process.env.XHYVED_NETWORKS;
    rmSync(folder, { recursive: true });
  });
  const at = (...names: string[]): string => join(folder, ...names);

  const launch = (definition: object, more: object = {}): LaunchFile =>
    parse(
      LaunchFile,
      {
        nonce: "n",
        definition: {
          name: "v",
          uuid: UUID,
          boot: { kind: "linux", kernel: at("disks/kernel") },
          ...definition,
        },
        console: { file: at("kept/console.log") },
        ...more,
      },
      "launch",
    );
  const profileOf = (definition: object, more?: object): string =>
    sandboxProfile(needsOf(at("run"), launch(definition, more)));

  it("are its folder, its sockets and its console's history", () => {
    const profile = profileOf({ devices: [] });
    expect(allows(profile, "file-write-create", { path: at("run/state") })).toBe(true);
    for (const socket of ["vm.sock", "fd.sock"])
      expect(allows(profile, "network-inbound", { local: at("run", socket) })).toBe(true);
    const history = { path: at("kept/console.log.0000000000000000") };
    expect(allows(profile, "file-write-create", history)).toBe(true);
    expect(allows(profile, "file-read-data", { path: at("kept") })).toBe(true);
    expect(allows(profile, "file-write-create", { path: at("kept/cloud-init.iso") })).toBe(false);
    expect(allows(profile, "file-read-data", { path: at("disks/kernel") })).toBe(false);
  });

  it("are serial ports' logs with their predecessors, sockets and links", () => {
    const profile = profileOf({
      serial: {
        com1: { backend: "socket", path: at("com1"), log: at("com1.log") },
        com2: { backend: "file", path: at("com2.txt") },
      },
      devices: [
        { slot: "3:0", type: "virtio-console", serial: { backend: "pty", path: at("pty") } },
        { slot: "4:0", type: "uart", serial: { backend: "terminal", path: at("tty") } },
      ],
    });
    for (const name of ["com1.log", "com1.log.1", "com2.txt", "com2.txt.1", "com1", "pty"])
      expect(allows(profile, "file-write-unlink", { path: at(name) })).toBe(true);
    expect(allows(profile, "network-inbound", { local: at("com1") })).toBe(true);
    expect(allows(profile, "file-read-data", { path: at("tty") })).toBe(false);
  });

  it("are disks that it writes, and NBD servers, but not what it only reads", () => {
    const profile = profileOf({
      devices: [
        { slot: "3:0", type: "virtio-blk", path: at("disks/raw") },
        { slot: "4:0", type: "virtio-blk", path: at("disks/read"), readOnly: true },
        { slot: "5:0", type: "virtio-blk", path: at("disks/base"), scratch: at("kept") },
        { slot: "6:0", type: "virtio-blk", path: at("nbd"), format: "nbd" },
        { slot: "7:0", type: "ahci-cd", path: at("disks/cd") },
        { slot: "8:0", type: "ahci", ports: [{ type: "hd", path: at("disks/hd") }] },
        {
          slot: "9:0",
          type: "virtio-blk",
          path: at("disks/top"),
          format: "qcow2",
          backing: [{ path: at("disks/bottom"), format: "raw" }],
        },
      ],
    });
    const writes = (name: string) =>
      allows(profile, "file-write-data", { path: at("disks", name) });
    const names = ["raw", "hd", "top", "read", "base", "cd", "bottom"];
    expect(names.filter(writes)).toEqual(["raw", "hd", "top"]);
    for (const name of names)
      expect(allows(profile, "file-read-data", { path: at("disks", name) })).toBe(false);
    expect(allows(profile, "network-outbound", { remote: at("nbd") })).toBe(true);
  });

  it("are the sockets of networks and of guest sockets", () => {
    const profile = profileOf({
      devices: [
        {
          slot: "3:0",
          type: "virtio-net",
          backend: { kind: "stream", socket: at("passt") },
        },
        { slot: "4:0", type: "virtio-net", backend: { kind: "switch", network: "lan" } },
        { slot: "5:0", type: "virtio-net", backend: { kind: "vmnet" } },
        { slot: "6:0", type: "virtio-sock", cid: 3, socket: at("vsock") },
      ],
    });
    expect(allows(profile, "network-outbound", { remote: at("passt") })).toBe(true);
    expect(allows(profile, "network-outbound", { remote: at("vsock_22") })).toBe(true);
    expect(allows(profile, "network-outbound", { remote: at("other_22") })).toBe(false);
    expect(allows(profile, "network-inbound", { local: at("vsock") })).toBe(true);
    expect(allows(profile, "network-inbound", { local: at("networks/lan/a") })).toBe(true);
    expect(allows(profile, "network-inbound", { local: at("networks/wan/a") })).toBe(false);
    expect(allows(profile, "mach-lookup")).toBe(false);
  });

  it("are named as the kernel names them where folders are links", () => {
    symlinkSync(at("disks"), at("link"));
    writeFileSync(at("disks/raw"), "");
    const devices = [{ slot: "3:0", type: "virtio-blk", path: at("link/raw") }];
    const serial = { com1: { backend: "file", path: at("link/com1.log") } };
    const profile = profileOf({ devices, serial });
    expect(allows(profile, "file-write-data", { path: at("disks/raw") })).toBe(true);
    expect(allows(profile, "file-write-create", { path: at("disks/com1.log.1") })).toBe(true);
  });

  it("are the folders on the way to what is opened beneath one of the daemon's", () => {
    mkdirSync(at("disks/a/b"), { recursive: true });
    const serial = { com1: { backend: "file", path: at("disks/a/b/com1.log") } };
    const folders = { folders: [at("disks"), at("kept")] };
    const lists = (profile: string, path: string): boolean =>
      allows(profile, "file-read-data", { path });
    const profile = profileOf({ devices: [], serial }, folders);
    for (const path of ["disks", "disks/a", "disks/a/b"])
      expect(lists(profile, at(path))).toBe(true);
    expect(lists(profile, folder)).toBe(false);
    expect(lists(profileOf({ devices: [], serial }), at("disks"))).toBe(false);
  });
});
