// npm's install script: a published package brings its addons for the common hosts in prebuilt/
// and needs no compiler; a checkout, and any other host, builds them.
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");

/** Whether both addons are there, ready made, and load on this host. */
function prebuilt() {
  if (existsSync(join(root, ".git"))) return false;
  const require = createRequire(import.meta.url);
  try {
    for (const addon of ["vmm", "host"]) require("node-gyp-build")(join(root, "prebuilt", addon));
    return true;
  } catch (error) {
    console.log(`no ready-made addon can be used, they are built: ${error.message.split("\n")[0]}`);
    return false;
  }
}

if (prebuilt()) console.log(`addons for ${process.platform}-${process.arch} are ready made`);
else {
  process.argv[2] = "rebuild";
  await import("./build.mjs");
}
