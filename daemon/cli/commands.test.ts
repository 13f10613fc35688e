// xhyvectl as people and scripts use it: the table against the API's, what is made from the table,
// and the commands against a real daemon.
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parse } from "yaml";
import { operationIds } from "../../api-schema/operations.js";
import { TestDaemon } from "../../test/daemon/daemon.js";
import { projectRoot } from "../../test/guest/paths.js";
import { commands } from "./commands.js";
import { completionFor } from "./completion.js";
import { documentsIn, patchOf } from "./documents.js";
import { manual } from "./man-page.js";
import { bar } from "./progress.js";
import { duration } from "./tokens.js";

const program = join(projectRoot, "bin", "xhyvectl");
const run = (args: readonly string[], more: { socket?: string; input?: string } = {}) =>
  new Promise<{ status: number | null; out: string; err: string }>((resolve) => {
    const env = { ...process.env, XHYVED_SOCKET: more.socket ?? "/nowhere/x.sock" };
    const child = spawn(program, args, { env });
    let [out, err] = ["", ""];
    child.stdout.on("data", (data: Buffer) => {
      out += data.toString();
    });
    child.stderr.on("data", (data: Buffer) => {
      err += data.toString();
    });
    child.once("close", (status) => resolve({ status, out, err }));
    child.stdin.end(more.input ?? "");
  });

/** Of these a browser is the client. */
const BROWSER = ["getDocs", "getDocsFile"];

describe("the table of commands", () => {
  it("has a command for every operation of the API", () => {
    const used = new Set<string>(Object.values(commands).flatMap(({ operations }) => operations));
    expect(operationIds.filter((id) => !used.has(id) && !BROWSER.includes(id))).toEqual([]);
  });

  it("explains every command", async () => {
    for (const name of ["create", "token create", "shutdown"]) {
      const { out, status } = await run([...name.split(" "), "--help"]);
      expect(status).toBe(0);
      expect(out).toContain(`usage: xhyvectl ${name} `);
      for (const option of Object.keys(commands[name]?.options ?? {}))
        expect(out).toContain(`--${option}`);
    }
    const unknown = await run(["token"]);
    expect(unknown.err).toBe(
      "xhyvectl: token what? There is token list, token create, token revoke\n",
    );
  });
});

/** What bash would offer for the last of these words. */
function offers(...words: string[]): string[] {
  const script = `${completionFor("bash", commands)}
    COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _xhyvectl; printf '%s\\n' "\${COMPREPLY[@]}"`;
  const { stdout, stderr } = spawnSync("bash", ["-c", script, "bash", ...words], {
    encoding: "utf8",
  });
  expect(stderr).toBe("");
  return stdout.split("\n").filter((word) => word !== "");
}

describe("what is made from it", () => {
  it("completes in bash", () => {
    expect(offers("xhyvectl", "sh")).toEqual(["show", "shutdown"]);
    expect(offers("xhyvectl", "token", "")).toEqual(["list", "create", "revoke"]);
    expect(offers("xhyvectl", "token", "create", "--sc")).toEqual(["--scope"]);
    expect(offers("xhyvectl", "token", "create", "--scope", "op")).toEqual(["operate"]);
    expect(offers("xhyvectl", "start", "--wait", "rea")).toEqual(["ready"]);
  });

  it("is a script that the shell takes", () => {
    for (const shell of ["bash", "zsh", "fish"] as const) {
      const input = completionFor(shell, commands);
      for (const name of Object.keys(commands)) expect(input).toContain(name.split(" ")[0]);
      const { status, error, stderr } = spawnSync(shell, ["-n"], { input, encoding: "utf8" });
      if (error === undefined)
        expect({ shell, status, stderr }).toEqual({ shell, status: 0, stderr: "" });
    }
  });

  it("is a manual page without warnings", () => {
    const folder = mkdtempSync(join(tmpdir(), "man-"));
    const page = join(folder, "xhyvectl.1");
    writeFileSync(page, manual(commands));
    const { error, stdout, stderr } = spawnSync("man", ["--warnings=w", "-l", page], {
      encoding: "utf8",
      env: { ...process.env, MANWIDTH: "100", LC_ALL: "C.UTF-8" },
    });
    rmSync(folder, { recursive: true });
    if (error !== undefined) return; // a host without man
    expect(stderr).toBe("");
    for (const name of Object.keys(commands)) expect(stdout).toContain(name);
  });
});

describe("what people write", () => {
  it("becomes a merge patch", () => {
    const patch = patchOf([
      "cpus=4",
      "restart.policy=always",
      "labels.a=x y",
      "restart.window=null",
    ]);
    expect(patch).toEqual({
      cpus: 4,
      restart: { policy: "always", window: null },
      labels: { a: "x y" },
    });
    expect(() => patchOf(["cpus"])).toThrow("FIELD=VALUE");
  });

  it("is a time, and progress a bar", () => {
    expect([duration("90"), duration("12h"), duration("30d")]).toEqual([90, 43_200, 2_592_000]);
    expect(bar({ done: 1, total: 2, unit: "vms" })).toBe(
      "[############------------]  50 %  1 of 2 vms",
    );
  });

  it("is told where it is wrong", () => {
    const folder = mkdtempSync(join(tmpdir(), "yaml-"));
    const file = join(folder, "bad.yaml");
    writeFileSync(file, "name: a\n  cpus: [1\n");
    expect(() => documentsIn(file)).toThrow(/bad\.yaml: .*line 1, column 7/s);
    rmSync(folder, { recursive: true });
  });
});

describe("against a daemon", () => {
  let daemon: TestDaemon;
  beforeAll(async () => {
    daemon = await TestDaemon.start();
  });
  afterAll(() => daemon.end());
  const ctl = (args: readonly string[], input?: string) =>
    run(args, { socket: daemon.socket, ...(input !== undefined && { input }) });

  const lab = (memory: number) => `
name: one
memory: ${memory}
boot: &boot { kind: multiboot, kernel: ${join(daemon.folder, "hello.bin")} }
power: running
---
name: two
memory: 16777216
boot: { kind: multiboot, kernel: ${join(daemon.folder, "hello.bin")} }
`;

  it("applies files, and the same again changes nothing", async () => {
    const first = await ctl(["apply", "-f", "-", "--wait"], lab(2 ** 24));
    expect(first).toEqual({ status: 0, out: "one created\ntwo created\n", err: "" });
    expect((await daemon.vm("one")).status.state).toBe("running");
    const again = await ctl(["apply", "-f", "-"], lab(2 ** 24));
    expect(again.out).toBe("one unchanged\ntwo unchanged\n");
    const dry = await ctl(
      ["apply", "-f", "-", "--dry-run"],
      lab(2 ** 24).replace("two\n", "three\n"),
    );
    expect(dry.out).toBe("one unchanged (dry run)\nthree created (dry run)\n");
    const wrong = await ctl(
      ["apply", "-f", "-"],
      "name: bad\ncpus: 0\nboot: {kind: linux, kernel: /k}",
    );
    expect(wrong.err).toBe("xhyvectl: bad: /cpus: must be an integer from 1 to 64\n");
  });

  it("gives definitions as it takes them, and changes fields of them", async () => {
    const { out } = await ctl(["get", "two", "-o", "yaml"]);
    expect(parse(out)).toMatchObject({ name: "two", memory: 2 ** 24, power: "stopped" });
    expect((await ctl(["apply", "-f", "-"], out)).out).toBe("two unchanged\n");
    expect((await ctl(["change", "two", "cpus=2", "labels.tier=db"])).out).toContain(
      "generation 2",
    );
    expect((await daemon.vm("two")).definition).toMatchObject({ cpus: 2, labels: { tier: "db" } });
    expect((await ctl(["list", "-q", "-l", "tier=db"])).out).toBe("two\n");
    const stale = await ctl(["change", "two", "cpus=3", "--if-generation", "1"]);
    expect(stale).toMatchObject({ status: 1, err: "xhyvectl: the VM is at generation 2, not 1\n" });
  });

  it("keeps networks, which files name before or after the VMs on them", async () => {
    const file = `
name: three
boot: { kind: multiboot, kernel: ${join(daemon.folder, "hello.bin")} }
devices: [{ type: lpc }, { type: virtio-net, network: lan }]
---
kind: network
name: lan
backend: { kind: switch }
`;
    expect(await ctl(["apply", "-f", "-"], file)).toMatchObject({
      out: "network lan created\nthree created\n",
      err: "",
    });
    expect((await ctl(["apply", "-f", "-"], file)).out).toBe(
      "network lan unchanged\nthree unchanged\n",
    );
    const made = await ctl(["network", "create", "office", "--kind", "bridge", "--bridge", "br0"]);
    expect(made.out).toMatch(/^NAME +KIND +ON THE HOST +USED BY\noffice +bridge +br0 *\n$/);
    expect((await ctl(["network", "list", "-q"])).out).toBe("lan\noffice\n");
    expect((await ctl(["network", "change", "lan", "mtu=9000"])).out).toBe(
      "lan is at generation 2; it takes effect at the next start of three\n",
    );
    expect((await ctl(["network", "show", "lan"])).out).toMatch(/\nlan +switch +three\n$/);
    const held = await ctl(["network", "delete", "lan"]);
    expect(held.err).toBe("xhyvectl: network lan is used by three\n");
    expect((await ctl(["delete", "three"])).status).toBe(0);
    expect((await ctl(["network", "delete", "lan"])).out).toBe("lan is deleted\n");
    const unknown = await ctl(["apply", "-f", "-"], "kind: disk\nname: d");
    expect(unknown.err).toBe("xhyvectl: d: /kind: must be one of network, vm\n");
  });

  it("shows load and events, once where nobody looks", async () => {
    const { out } = await ctl(["top"]);
    expect(out).toMatch(/^NAME +STATE +CPU +CPUS.*\none +running +[0-9.]+ % +1 /);
    const told = await ctl([
      "events",
      "--after",
      "0",
      "-n",
      "2",
      "--kinds",
      "vm.created",
      "--json",
    ]);
    const lines = told.out
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as { vm: object });
    expect(lines.map(({ vm }) => vm)).toMatchObject([{ name: "one" }, { name: "two" }]);
  });

  it("waits for states, and says which it is where the time is over", async () => {
    const late = await ctl(["wait", "one", "paused", "--timeout", "1"]);
    expect(late).toMatchObject({ status: 1, err: "xhyvectl: one is running, not paused\n" });
    const waiting = ctl(["wait", "one", "paused"]);
    expect((await ctl(["pause", "one"])).status).toBe(0);
    expect(await waiting).toMatchObject({ status: 0, out: "one is paused\n" });
    expect((await ctl(["registers", "one"])).out).toContain("rip: ");
    const gone = ctl(["wait", "two", "deleted"]);
    await ctl(["delete", "two"]);
    expect((await gone).out).toBe("two is deleted\n");
  });

  it("makes tokens, tells of health, and takes options before the command", async () => {
    const made = await ctl(["token", "create", "t", "--scope", "operate", "--expires", "1h"]);
    expect(made.out).toMatch(/^xhyved\.[0-9a-f]{16}\./);
    expect((await ctl(["token", "list"])).out).toMatch(/\nt +operate +2/);
    expect((await ctl(["token", "revoke", "t"])).out).toBe("t is revoked\n");
    expect((await ctl(["health"])).out).toBe("healthy and ready\n");
    expect((await ctl(["metrics"])).out).toContain("xhyved_vm_vcpus");
    expect(JSON.parse((await ctl(["openapi"])).out)).toMatchObject({ openapi: "3.1.0" });
    const before = await run(["--socket", daemon.socket, "shutdown", "--all", "--timeout", "5"]);
    expect(before).toEqual({ status: 0, out: "1 VMs are off\n", err: "" });
    const after = await run(["shutdown", "--all", "--timeout", "5", "--socket", daemon.socket]);
    expect(after.out).toBe("0 VMs are off\n");
  });
});
