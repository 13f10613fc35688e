// Whether a bundle is what it should be: its format and machine, the libraries it loads, and where
// each symbol it lacks will come from. A Mach-O bundle is linked with `dynamic_lookup`, since only
// node has Node-API: a misspelt framework function would link without a word and fail on a user's
// Mac, so whatever is looked up dynamically has to be a name that node exports.
import { readFileSync } from "node:fs";
import { readElf } from "./elf.mjs";
import { readMachO } from "./macho.mjs";

/** Node-API, and libuv's functions, which napi_get_uv_event_loop is of no use without. */
const NODES_OWN = /^_?(napi_|node_api_|uv_)/;
const REGISTERS = /^_?(napi_register_module_v1|node_api_module_get_api_version_v1)$/;

/** The C++ library is linked in: hosts have another one, or none. */
const CXX_RUNTIME =
  /^_?(_ZSt|_ZNSt|_ZNKSt|_ZTVN10__cxxabiv1|__cxa_(?!finalize|atexit|thread_atexit))/;

const readers = { ELF: readElf, "Mach-O": readMachO };

/** What is wrong with the bundle at `path`, in words; empty where nothing is. */
export function faultsOf(path, target, frameworks) {
  const file = readers[target.format](readFileSync(path));
  const faults = [];
  if (file.machine !== target.machine)
    faults.push(`it is built for ${file.machine}, not for ${target.machine}`);
  if (file.fileType !== "dylib") faults.push(`it is a ${file.fileType}, which cannot be loaded`);
  for (const library of file.libraries)
    if (!target.libraries.includes(library)) faults.push(`it loads ${library}`);
  for (const { name, from } of file.imports) {
    const fault = importFault(name, from, target, file.libraries);
    if (fault !== undefined) faults.push(fault);
  }
  for (const name of frameworks) {
    const library = file.libraries.find((one) => one.endsWith(`/${name}`));
    if (library === undefined) faults.push(`it does not load ${name}`);
  }
  if (!file.exported.some((name) => REGISTERS.test(name)))
    faults.push("it exports nothing that registers a Node-API module");
  return faults;
}

function importFault(name, from, { format }, libraries) {
  if (NODES_OWN.test(name)) {
    if (from === undefined || from === "dynamic lookup") return undefined;
    return `${name} comes from ${from}, not from node`;
  }
  if (CXX_RUNTIME.test(name) && !(from ?? "").includes("libSystem"))
    return `${name} is not linked in`;
  if (format === "ELF" ? from !== undefined : libraries.includes(from)) return undefined;
  return `${name} is in no library that is loaded: is it misspelt?`;
}
