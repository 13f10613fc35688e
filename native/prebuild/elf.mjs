// What a 64-bit little-endian ELF shared object says of itself (System V ABI, "Object Files").
const MACHINE = new Map([
  [62, "x86-64"],
  [183, "arm64"],
]);
const ET_DYN = 3;
const SHT_DYNAMIC = 6;
const SHT_DYNSYM = 11;
const SHT_GNU_VERSYM = 0x6fffffff;
const DT_NEEDED = 1n;
const SHN_UNDEF = 0;
const SYMBOL_SIZE = 24;
const DYNAMIC_SIZE = 16;
// Of a symbol's version (LSB Core, "Symbol Versioning"): from 2 on it is a library's.
const VERSION_MASK = 0x7fff;
const FIRST_VERSION = 2;
const STB_WEAK = 2;

const text = (file, from) => file.toString("utf8", from, file.indexOf(0, from));

function sectionsOf(file) {
  const table = Number(file.readBigUInt64LE(0x28));
  const [size, count] = [file.readUInt16LE(0x3a), file.readUInt16LE(0x3c)];
  return Array.from({ length: count }, (_, index) => {
    const at = table + index * size;
    return {
      type: file.readUInt32LE(at + 4),
      offset: Number(file.readBigUInt64LE(at + 24)),
      size: Number(file.readBigUInt64LE(at + 32)),
      link: file.readUInt32LE(at + 40),
    };
  });
}

const entries = ({ offset, size }, each) =>
  Array.from({ length: Math.floor(size / each) }, (_, index) => offset + index * each);

/** {machine, fileType, libraries, imports: [{name, from}], exported}; throws where it is none. */
export function readElf(file) {
  if (file.length < 64 || file.readUInt32BE(0) !== 0x7f454c46 || file.readUInt16LE(4) !== 0x0102)
    throw new Error("it is no 64-bit little-endian ELF file");
  const sections = sectionsOf(file);
  const strings = (section) => sections[section.link].offset;
  const dynamic = sections.find(({ type }) => type === SHT_DYNAMIC);
  const symbols = sections.find(({ type }) => type === SHT_DYNSYM);
  const versions = sections.find(({ type }) => type === SHT_GNU_VERSYM);
  const versionOf = (index) => file.readUInt16LE(versions.offset + 2 * index) & VERSION_MASK;
  const named = entries(symbols, SYMBOL_SIZE).map((at, index) => ({
    name: text(file, strings(symbols) + file.readUInt32LE(at)),
    here: file.readUInt16LE(at + 6) !== SHN_UNDEF,
    from: versionOf(index) >= FIRST_VERSION ? "a library" : undefined,
    weak: file.readUInt8(at + 4) >> 4 === STB_WEAK,
  }));
  return {
    machine: MACHINE.get(file.readUInt16LE(18)) ?? "unknown",
    fileType: file.readUInt16LE(16) === ET_DYN ? "dylib" : "unknown",
    libraries: entries(dynamic, DYNAMIC_SIZE)
      .filter((at) => file.readBigInt64LE(at) === DT_NEEDED)
      .map((at) => text(file, strings(dynamic) + Number(file.readBigUInt64LE(at + 8)))),
    // The linker gave a version to what it found in a library; what is weak may be nowhere.
    imports: named.filter(({ name, here, weak }) => name !== "" && !here && !weak),
    exported: named.filter(({ here }) => here).map(({ name }) => name),
  };
}
