// Builds the two addons with node-gyp: `node native/build.mjs rebuild|build`, from npm's scripts.
// Where Node's headers lie beside the node that runs this, they are used and nothing is downloaded.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const prefix = join(dirname(process.execPath), "..");
const hasHeaders = existsSync(join(prefix, "include", "node", "node.h"));

// npm names its own node-gyp to the scripts it runs.
const nodeGyp = process.env.npm_config_node_gyp;
const [program, before] = nodeGyp === undefined ? ["node-gyp", []] : [process.execPath, [nodeGyp]];
const args = [
  ...before,
  // "build" configures too: a new source file is in no makefile yet.
  ...(process.argv[2] === "rebuild" ? ["rebuild"] : ["configure", "build"]),
  "-j",
  String(availableParallelism()),
  ...(hasHeaders ? [`--nodedir=${prefix}`] : []),
];
const { status, error } = spawnSync(program, args, { cwd: root, stdio: "inherit" });
if (error) console.error(`cannot run ${program}: ${error.message}; run this as 'npm run compile'`);
process.exit(status ?? 1);
