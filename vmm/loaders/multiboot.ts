// Multiboot 1 (Multiboot Specification 0.6.96): ELF32 kernels or those with a.out address fields.
import { VmError } from "../../api-schema/errors.js";
import type { Gpa } from "../../native/types.js";
import { alignUp, GDT, lowMemoryOf, MIB, memoryMap, PAGE } from "../layout.js";
import { endOfLoads, isElf, parseElf, physicalEntry, segmentPieces, unsupported } from "./elf.js";
import { type Image, viewOf } from "./image.js";
import { type BootPlan, checkPieces, type GuestLayout, gdtPiece, hex, type Piece } from "./plan.js";

const SEARCH = 8192; // §3.1: the header lies in the first 8192 bytes, 32-bit aligned
const HEADER_MAGIC = 0x1bad_b002;
const LOADER_MAGIC = 0x2bad_b002; // §3.2
const KNOWN_REQUIREMENTS = 0x3; // §3.1.2: bit 0 page-aligned modules, bit 1 memory information
const MANDATORY = 0xffff;
const ADDRESS_FIELDS = 1 << 16;

export interface MultibootHeader {
  /** Where in the file it was found. */
  readonly offset: number;
  readonly flags: number;
  readonly addresses?: {
    readonly header: Gpa;
    readonly load: Gpa;
    readonly loadEnd: Gpa;
    readonly bssEnd: Gpa;
    readonly entry: Gpa;
  };
}

export interface Module {
  readonly image: Image;
  readonly args?: string | undefined;
}

export interface MultibootInput {
  readonly kernel: Image;
  readonly modules: readonly Module[];
  readonly cmdline?: string | undefined;
}

function parseHeader(image: Image): MultibootHeader {
  const view = viewOf(image.read(0, Math.min(SEARCH, image.size), "the Multiboot header"));
  for (let offset = 0; offset + 12 <= view.byteLength; offset += 4) {
    if (view.getUint32(offset, true) !== HEADER_MAGIC) continue;
    const flags = view.getUint32(offset + 4, true);
    const sum = HEADER_MAGIC + flags + view.getUint32(offset + 8, true);
    if (sum >>> 0 !== 0) continue;
    const unknown = flags & MANDATORY & ~KNOWN_REQUIREMENTS;
    if (unknown !== 0) throw new VmError("MULTIBOOT_FLAGS", [image.name, hex(unknown)]);
    if ((flags & ADDRESS_FIELDS) === 0) return { offset, flags };
    if (offset + 32 > view.byteLength) throw invalid(image, "the address fields are cut off");
    const field = (index: number): number => view.getUint32(offset + 12 + index * 4, true);
    const [header, load, loadEnd] = [field(0), field(1), field(2)];
    return {
      offset,
      flags,
      addresses: { header, load, loadEnd, bssEnd: field(3), entry: field(4) },
    };
  }
  throw new VmError("MULTIBOOT_NO_HEADER", [image.name]);
}

const invalid = (image: Image, why: string): VmError =>
  new VmError("MULTIBOOT_HEADER_INVALID", [image.name, why]);

interface Loaded {
  readonly pieces: readonly Piece[];
  readonly entry: Gpa;
  readonly end: Gpa;
}

export function plan(input: MultibootInput, guest: GuestLayout): BootPlan {
  const header = parseHeader(input.kernel);
  const kernel =
    header.addresses === undefined
      ? elfKernel(input.kernel)
      : addressedKernel(input.kernel, header.offset, header.addresses);
  const modules = placeModules(input.modules, kernel.end, guest.low);
  const info = information(input, modules, guest);
  const pieces: Piece[] = [
    gdtPiece(GDT.base, "protected"),
    ...kernel.pieces,
    ...modules.map(modulePiece),
    info,
  ];
  checkPieces(input.kernel.name, pieces, guest.low);
  const { entry: rip } = kernel;
  return {
    pieces,
    entry: { mode: "protected", rip, rax: LOADER_MAGIC, rbx: info.at, gdt: GDT.base },
  };
}

function elfKernel(image: Image): Loaded {
  if (!isElf(image)) throw invalid(image, "it has no address fields and is no ELF file");
  const elf = parseElf(image);
  if (elf.bits !== 32) throw unsupported(image, "the ELF class", "64-bit", "32-bit for Multiboot");
  return { pieces: segmentPieces(elf), entry: physicalEntry(elf), end: endOfLoads(elf) };
}

/** §3.1.3: load_addr is `header_addr - load_addr` bytes before the header in the file. */
function addressedKernel(
  image: Image,
  offset: number,
  at: NonNullable<MultibootHeader["addresses"]>,
): Loaded {
  const start = offset - (at.header - at.load);
  if (at.load > at.header || start < 0) {
    throw invalid(image, `load_addr ${hex(at.load)} does not suit header_addr ${hex(at.header)}`);
  }
  if (at.loadEnd !== 0 && at.loadEnd < at.load) {
    throw invalid(image, `load_end_addr ${hex(at.loadEnd)} lies below load_addr ${hex(at.load)}`);
  }
  const length = at.loadEnd === 0 ? image.size - start : at.loadEnd - at.load;
  if (start + length > image.size) {
    throw new VmError("KERNEL_TRUNCATED", [image.name, "the kernel", start + length, image.size]);
  }
  const loadEnd = at.load + length;
  if (at.bssEnd !== 0 && at.bssEnd < loadEnd) {
    throw invalid(image, `bss_end_addr ${hex(at.bssEnd)} lies below ${hex(loadEnd)}`);
  }
  const end = Math.max(loadEnd, at.bssEnd);
  if (at.entry < at.load || at.entry >= end) {
    throw new VmError("KERNEL_ENTRY_OUTSIDE", [image.name, hex(at.entry)]);
  }
  const what = `the kernel ${image.name}`;
  const pieces = [
    { what, at: at.load, image, offset: start, length },
    { what: `${what}'s bss`, at: loadEnd, zeroes: end - loadEnd },
  ];
  return { pieces, entry: at.entry, end };
}

interface PlacedModule extends Module {
  readonly at: Gpa;
}

/** Page-aligned, one after the other, above the kernel and above 1 MiB. */
function placeModules(modules: readonly Module[], after: Gpa, low: number): PlacedModule[] {
  let next = alignUp(Math.max(after, MIB), PAGE);
  return modules.map((module) => {
    const at = next;
    next = alignUp(at + module.image.size, PAGE);
    if (at + module.image.size > low) {
      throw new VmError("MODULE_DOES_NOT_FIT", [module.image.name, module.image.size, hex(low)]);
    }
    return { ...module, at };
  });
}

const modulePiece = ({ image, at }: PlacedModule): Piece => ({
  what: `the module ${image.name}`,
  at,
  image,
  offset: 0,
  length: image.size,
});

// §3.3 "Boot information format".
const INFO_SIZE = 120;
const FLAGS = { memory: 0x1, cmdline: 0x4, modules: 0x8, memoryMap: 0x40, loaderName: 0x200 };
const MODULE_SIZE = 16;
const MAP_ENTRY_SIZE = 24;
const LOADER_NAME = "xhyved";
/** Bootloaders may put it anywhere; here no kernel that loads at 1 MiB or above is in the way. */
const INFO_BASE = 0x1_0000;
const MAP_TYPE = { ram: 1, reserved: 2 } as const;

const words = (...parts: readonly (string | undefined)[]): string =>
  parts.filter((part) => part !== undefined && part !== "").join(" ");

function information(
  { kernel, cmdline }: MultibootInput,
  modules: readonly PlacedModule[],
  guest: GuestLayout,
): Piece & { readonly bytes: Uint8Array } {
  const map = memoryMap(guest.memory);
  const modulesAt = INFO_SIZE;
  const mapAt = modulesAt + modules.length * MODULE_SIZE;
  const strings = new Strings(INFO_BASE + mapAt + map.length * MAP_ENTRY_SIZE);
  const head = new DataView(new ArrayBuffer(mapAt + map.length * MAP_ENTRY_SIZE));
  const put = (at: number, value: number): void => head.setUint32(at, value, true);
  const flags = FLAGS.memory | FLAGS.cmdline | FLAGS.memoryMap | FLAGS.loaderName;
  put(0, modules.length > 0 ? flags | FLAGS.modules : flags);
  put(4, (map[0]?.size ?? 0) >> 10);
  put(8, (lowMemoryOf(guest.memory) - MIB) / 1024);
  put(16, strings.add(words(kernel.name, cmdline)));
  put(20, modules.length);
  put(24, modules.length > 0 ? INFO_BASE + modulesAt : 0);
  put(44, map.length * MAP_ENTRY_SIZE);
  put(48, INFO_BASE + mapAt);
  put(64, strings.add(LOADER_NAME));
  for (const [index, module] of modules.entries()) {
    const at = modulesAt + index * MODULE_SIZE;
    put(at, module.at);
    put(at + 4, module.at + module.image.size);
    put(at + 8, strings.add(words(module.image.name, module.args)));
  }
  for (const [index, entry] of map.entries()) {
    const at = mapAt + index * MAP_ENTRY_SIZE;
    put(at, MAP_ENTRY_SIZE - 4); // §3.3: the size field does not count itself
    head.setBigUint64(at + 4, BigInt(entry.base), true);
    head.setBigUint64(at + 12, BigInt(entry.size), true);
    put(at + 20, MAP_TYPE[entry.type]);
  }
  const bytes = Buffer.concat([new Uint8Array(head.buffer), ...strings.bytes]);
  return { what: "the Multiboot information", at: INFO_BASE, bytes };
}

/** NUL-terminated strings, one after the other from an address on. */
class Strings {
  readonly bytes: Uint8Array[] = [];
  #next: Gpa;

  constructor(at: Gpa) {
    this.#next = at;
  }

  add(text: string): Gpa {
    const at = this.#next;
    const bytes = new TextEncoder().encode(`${text}\0`);
    this.bytes.push(bytes);
    this.#next += bytes.length;
    return at;
  }
}
