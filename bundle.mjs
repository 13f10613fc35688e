// Makes each program that is started often one file: `node bundle.mjs`, after tsc has filled dist/. Of
// a VM process's start more than half was finding, reading and linking three hundred modules.
//
// A program's bundle takes the place of its first module, which tsc writes anew whenever it runs: what
// lies in dist/ is never older than what tsc compiled, bundled or not, and behaves alike.
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join, relative, sep } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = dirname(fileURLToPath(import.meta.url));
const DIST = join(ROOT, "dist");

/** Started by bin/ and by the daemon. */
export const PROGRAMS = [
  "daemon/main",
  "daemon/cli/main",
  "vmm/cli/xhyve",
  "vmm/process/accelerators",
  "vmm/process/check",
  "vmm/process/main",
];

/** These find native code beside themselves, so they stay where they are. */
const EXTERNAL = ["better-sqlite3", "node-gyp-build"];

const isOurs = (id) => id.startsWith(ROOT) && !id.includes(`${sep}node_modules${sep}`);

/** A module goes on to find files from where tsc puts it, not from where its code has moved. */
const keepPlaces = (program) => ({
  name: "keep-places",
  transform(code, id) {
    if (!isOurs(id) || !code.includes("import.meta.url")) return null;
    const place = relative(dirname(program), relative(ROOT, id).replace(/\.ts$/, ".js"));
    const url = JSON.stringify(place.split(sep).join("/"));
    // All stays in its line: the source map holds.
    const moved = code.replaceAll("import.meta.url", `new URL(${url}, import.meta.url).href`);
    return { code: moved, map: null };
  },
});

/** The folder of the package that a module of node_modules is of. */
const packageOf = (id) =>
  /^.*[\\/]node_modules[\\/](?:@[^\\/]+[\\/])?[^\\/]+/.exec(id.split("?")[0])?.[0];

/** What is copied is copied with its licence. */
function licences(modules) {
  const folders = new Set(modules.filter((id) => id.includes("node_modules")).map(packageOf));
  const texts = [...folders].sort().map((folder) => {
    const { name, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
    const file = ["LICENSE", "license", "LICENSE.md", "LICENCE", "license.md"]
      .map((each) => join(folder, each))
      .find((each) => existsSync(each));
    return `${name} (${license})\n\n${file === undefined ? "" : readFileSync(file, "utf8")}`;
  });
  return `The bundled programs in this folder contain these packages.\n\n${texts.join("\n----\n\n")}`;
}

/** `write`: into dist/; else the bundle is only made, and looked at by a test. */
export async function bundle(program, { write }) {
  const { rolldown } = await import("rolldown");
  const build = await rolldown({
    input: join(ROOT, `${program}.ts`),
    platform: "node",
    external: EXTERNAL,
    resolve: { extensionAlias: { ".js": [".ts", ".js"] } },
    plugins: [keepPlaces(program)],
  });
  const { output } = await build[write ? "write" : "generate"]({
    file: join(DIST, `${program}.js`),
    format: "esm",
    sourcemap: true,
    codeSplitting: false,
  });
  await build.close();
  return output[0];
}

/** Hosts that the bundler is not made for run what tsc wrote. */
const hasBundler = () =>
  import("rolldown").then(
    () => true,
    (error) => {
      console.error(`dist/ works, but is not bundled: ${error.message}`);
      return false;
    },
  );

async function main() {
  if (!(await hasBundler())) return;
  const chunks = [];
  for (const program of PROGRAMS) chunks.push(await bundle(program, { write: true }));
  const modules = chunks.flatMap((chunk) => Object.keys(chunk.modules));
  writeFileSync(join(DIST, "licences.txt"), licences(modules));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
