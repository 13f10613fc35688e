// What a thin 64-bit Mach-O file says of itself (Apple, "Mach-O Programming Topics"; mach-o/loader.h
// and mach-o/nlist.h): enough to know where each undefined symbol will be looked for.
const MAGIC_64 = 0xfeedfacf;
const CPU = new Map([
  [0x01000007, "x86-64"],
  [0x0100000c, "arm64"],
]);
const FILE_TYPE = new Map([
  [1, "object"],
  [2, "executable"],
  [6, "dylib"],
  [8, "bundle"],
]);
const LOAD = { symtab: 0x2, dylib: 0xc, weakDylib: 0x18, reexportDylib: 0x1f };
const REQUIRED_BY_DYLD = 0x80000000;
const HEADER_SIZE = 32;
const NLIST_SIZE = 16;
const N_STAB = 0xe0;
const N_TYPE = 0x0e;
const N_PEXT = 0x10;
const N_EXT = 0x01;
// Library ordinals of n_desc's high byte that are no library's.
const SELF_LIBRARY = 0x00;
const DYNAMIC_LOOKUP = 0xfe;
const EXECUTABLE = 0xff;

const text = (file, from, to = file.length) => {
  const end = file.indexOf(0, from);
  return file.toString("utf8", from, end === -1 ? to : Math.min(end, to));
};

function* loadCommands(file) {
  const count = file.readUInt32LE(16);
  let at = HEADER_SIZE;
  for (let index = 0; index < count; index++) {
    const size = file.readUInt32LE(at + 4);
    yield { kind: file.readUInt32LE(at) & ~REQUIRED_BY_DYLD, at, size };
    at += size;
  }
}

const placeOf = (ordinal, libraries) =>
  ({ [SELF_LIBRARY]: "self", [DYNAMIC_LOOKUP]: "dynamic lookup", [EXECUTABLE]: "executable" })[
    ordinal
  ] ?? libraries[ordinal - 1];

function symbolsOf(file, { at }, libraries) {
  const [table, count, strings] = [8, 12, 16].map((offset) => file.readUInt32LE(at + offset));
  const imports = [];
  const exported = [];
  for (let index = 0; index < count; index++) {
    const entry = table + index * NLIST_SIZE;
    const type = file.readUInt8(entry + 4);
    if ((type & N_STAB) !== 0 || (type & N_EXT) === 0) continue;
    const name = text(file, strings + file.readUInt32LE(entry));
    const undefinedHere = (type & N_TYPE) === 0;
    if (undefinedHere)
      imports.push({ name, from: placeOf(file.readUInt16LE(entry + 6) >> 8, libraries) });
    else if ((type & N_PEXT) === 0) exported.push(name);
  }
  return { imports, exported };
}

/** {machine, fileType, libraries, imports: [{name, from}], exported}; throws where it is none. */
export function readMachO(file) {
  if (file.length < HEADER_SIZE || file.readUInt32LE(0) !== MAGIC_64)
    throw new Error("it is no thin 64-bit Mach-O file");
  const commands = [...loadCommands(file)];
  const libraries = commands
    .filter(({ kind }) => [LOAD.dylib, LOAD.weakDylib, LOAD.reexportDylib].includes(kind))
    .map(({ at, size }) => text(file, at + file.readUInt32LE(at + 8), at + size));
  const symtab = commands.find(({ kind }) => kind === LOAD.symtab);
  return {
    machine: CPU.get(file.readUInt32LE(4)) ?? "unknown",
    fileType: FILE_TYPE.get(file.readUInt32LE(12)) ?? "unknown",
    libraries,
    ...(symtab ? symbolsOf(file, symtab, libraries) : { imports: [], exported: [] }),
  };
}
