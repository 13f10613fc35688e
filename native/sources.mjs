// The C++ sources of one part of native/ (core, addon/vmm, addon/host) for one host. Run by itself
// it prints those of this host, a line each, for binding.gyp and native/test/Makefile: a new file
// needs no list to be edited. Tests (*_test.cc) are no part of an addon.
import { readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const native = dirname(fileURLToPath(import.meta.url));

// A file named for another host (thread_darwin.cc on Linux, kvm/vcpu_linux_x64.cc on arm64) is no
// source here: host differences live in whole files, not in #if.
const named = /_((?:linux|darwin)(?:_(?:x64|arm64))?)\.cc$/;

/** Paths from the project's root. `host` is Node's platform and arch, which this host's are. */
export function sources(part, host = process) {
  const ours = (file) => {
    const wanted = named.exec(file)?.[1];
    return [undefined, host.platform, `${host.platform}_${host.arch}`].includes(wanted);
  };
  return readdirSync(join(native, part), { recursive: true })
    .map(String)
    .filter((file) => file.endsWith(".cc") && !file.endsWith("_test.cc"))
    .filter(ours)
    .sort()
    .map((file) => join("native", part, file));
}

if (process.argv[1] === fileURLToPath(import.meta.url))
  for (const file of sources(process.argv[2] ?? "core")) console.log(file);
