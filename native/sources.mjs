// Prints the C++ sources of one part of native/ (core, addon/vmm, addon/host), a line each, for
// binding.gyp and native/test/Makefile: a new file needs no list to be edited. Tests (*_test.cc)
// are no part of an addon.
import { readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const native = dirname(fileURLToPath(import.meta.url));
const part = process.argv[2] ?? "core";
// A file named for another host (thread_darwin.cc on Linux, kvm/vcpu_linux_x64.cc on arm64) is no
// source here: host differences live in whole files, not in #if.
const host = `${process.platform}_${process.arch}`;
const named = /_((?:linux|darwin)(?:_(?:x64|arm64))?)\.cc$/;
const ours = (file) => {
  const wanted = named.exec(file)?.[1];
  return wanted === undefined || wanted === host || wanted === process.platform;
};
const files = readdirSync(join(native, part), { recursive: true })
  .map(String)
  .filter((file) => file.endsWith(".cc") && !file.endsWith("_test.cc"))
  .filter(ours)
  .sort();
for (const file of files) console.log(join("native", part, file));
