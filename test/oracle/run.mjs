// `npm run test:oracle`: builds the oracle over the release build's core and runs it; arguments go
// through (--count, --seed, --only, --mode, --replay). It needs an x86-64 Linux host.
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../..", import.meta.url));
if (process.platform !== "linux" || process.arch !== "x64") {
  console.log(
    `skipped: the oracle is the host's own CPU, and this is ${process.platform}-${process.arch}`,
  );
  process.exit(0);
}
const run = (command, args) =>
  spawnSync(command, args, { cwd: root, stdio: "inherit" }).status ?? 1;
const built = run("make", ["-s", "-j2", "-C", "native/test", "oracle"]);
process.exit(built || run(join(root, "build", "core", "oracle", "oracle"), process.argv.slice(2)));
