// `npm run prebuild [-- TARGET…]`: both addons for every host (or linux-x64, linux-arm64,
// darwin-x64, darwin-arm64), in the layout that node-gyp-build loads, so that an installation needs
// no compiler. Zig's clang compiles and links for all of them; the frameworks that only Apple's SDK
// describes are described in frameworks/. Every bundle is checked before it counts as built. (No script may
// be called `build`: npm would run this one before it.)
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { availableParallelism, tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { sources } from "../sources.mjs";
import { faultsOf } from "./check.mjs";
import { nameOf, targets } from "./targets.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const root = join(here, "..", "..");
const cache = join(root, ".cache", "prebuild");
const zig = join(here, "node_modules", "@ryoppippi", "zig-linux-x64", "zig");
const addons = ["vmm", "host"];

const headers = [
  join(root, "native", "core"),
  join(root, "native", "hvf-headers"),
  dirname(createRequire(import.meta.url).resolve("node-addon-api/package.json")),
  nodeHeaders(),
];
const compileFlags = [
  ...["-std=c++20", "-O2", "-fPIC", "-fno-rtti", "-fno-exceptions", "-fvisibility=hidden"],
  ...["-DNAPI_VERSION=9", "-DNAPI_DISABLE_CPP_EXCEPTIONS", "-DNODE_ADDON_API_DISABLE_DEPRECATED"],
  ...["-DBUILDING_NODE_EXTENSION", "-pthread"],
  // Guest addresses are reinterpreted all over the core, knowingly; Zig's default traps on it.
  "-fno-sanitize=undefined",
];

function nodeHeaders() {
  const folder = join(dirname(process.execPath), "..", "include", "node");
  if (existsSync(join(folder, "node_api.h"))) return folder;
  throw new Error(`${folder} has no Node headers: install those of this node`);
}

/** The tool chain is a package of its own, locked, and only fetched by those who prebuild. */
function ensureZig() {
  if (existsSync(zig)) return;
  const { status } = spawnSync("npm", ["ci", "--ignore-scripts"], { cwd: here, stdio: "inherit" });
  if (status !== 0) throw new Error(`the tool chain cannot be installed in ${here}`);
}

function run(args) {
  const env = { ...process.env, ZIG_GLOBAL_CACHE_DIR: cache, ZIG_LOCAL_CACHE_DIR: cache };
  return new Promise((resolve, reject) => {
    const child = spawn(zig, args, { cwd: root, env, stdio: ["ignore", "inherit", "pipe"] });
    const said = [];
    child.stderr.on("data", (data) => said.push(data));
    child.on("error", reject);
    child.on("exit", (code) => {
      if (code === 0) return resolve();
      reject(new Error(`zig ${args.join(" ")}\n${Buffer.concat(said)}`));
    });
  });
}

/** One object a source; Zig's own cache makes the unchanged ones cheap. Tells all that failed. */
async function compile(target, files, progress) {
  const folder = join(work, nameOf(target));
  const objects = new Map(files.map((file) => [file, join(folder, file.replace(/\.cc$/, ".o"))]));
  const flags = ["-target", target.zig, ...compileFlags];
  const include = headers.flatMap((path) => ["-isystem", path]);
  const waiting = [...objects];
  const failures = [];
  const worker = async () => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      const [file, object] = next;
      mkdirSync(dirname(object), { recursive: true });
      const args = ["c++", ...flags, ...include, "-c", file, "-o", object];
      await run(args).catch((error) => failures.push(error.message));
      progress(1);
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, worker));
  if (failures.length > 0) throw new Error(failures.join("\n"));
  return objects;
}

/** prebuilt/ADDON/prebuilds/HOST/ADDON.node: what node-gyp-build finds below prebuilt/ADDON. */
const bundlePath = (target, addon) =>
  join(root, "prebuilt", addon, "prebuilds", nameOf(target), `${addon}.node`);

async function link(target, addon, objects) {
  const bundle = bundlePath(target, addon);
  mkdirSync(dirname(bundle), { recursive: true });
  const frameworks = target.frameworks[addon].flatMap((name) => ["-framework", name]);
  const host =
    target.format === "Mach-O"
      ? [
          ...["-Wl,-undefined,dynamic_lookup", `-Wl,-install_name,@rpath/${addon}.node`],
          ...["-F", join(here, "frameworks"), ...frameworks],
        ]
      : ["-pthread"];
  const fresh = `${bundle}.new`;
  await run(["c++", "-target", target.zig, "-shared", "-s", ...objects, "-o", fresh, ...host]);
  renameSync(fresh, bundle);
  return bundle;
}

function progressBar(name, total) {
  let done = 0;
  return (more) => {
    done += more;
    if (!process.stderr.isTTY) return;
    const filled = Math.round((done / total) * 30);
    const bar = "#".repeat(filled).padEnd(30, ".");
    process.stderr.write(
      `\r${name.padEnd(14)} [${bar}] ${done}/${total}${done === total ? "\n" : ""}`,
    );
  };
}

async function prebuild(target) {
  const core = sources("core", target);
  const own = Object.fromEntries(addons.map((addon) => [addon, sources(`addon/${addon}`, target)]));
  const files = [...core, ...addons.flatMap((addon) => own[addon])];
  const objects = await compile(target, files, progressBar(nameOf(target), files.length));
  // An archive, as in binding.gyp: an addon gets what it uses of the core, and no more.
  const archive = join(work, `${nameOf(target)}.a`);
  await run(["ar", "rcs", archive, ...core.map((file) => objects.get(file))]);
  const faults = [];
  for (const addon of addons) {
    const wanted = [...own[addon].map((file) => objects.get(file)), archive];
    const bundle = await link(target, addon, wanted);
    const found = faultsOf(bundle, target, target.frameworks[addon]);
    console.log(`${relative(root, bundle)}: ${found.length === 0 ? "checked" : "WRONG"}`);
    faults.push(...found.map((fault) => `${relative(root, bundle)}: ${fault}`));
  }
  return faults;
}

const asked = process.argv.slice(2);
const unknown = asked.find((name) => !targets.some((target) => nameOf(target) === name));
if (unknown !== undefined) {
  console.error(`no such host: ${unknown}; there are ${targets.map(nameOf).join(", ")}`);
  process.exit(2);
}
ensureZig();
// Zig's cache keeps the objects; these copies are the linker's.
const work = mkdtempSync(join(tmpdir(), "prebuild-"));
process.on("exit", () => rmSync(work, { recursive: true, force: true }));
const chosen = targets.filter((target) => asked.length === 0 || asked.includes(nameOf(target)));
const faults = [];
for (const target of chosen) faults.push(...(await prebuild(target)));
for (const fault of faults) console.error(fault);
process.exit(faults.length === 0 ? 0 : 1);
