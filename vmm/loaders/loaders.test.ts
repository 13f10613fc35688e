import { describe, expect, it } from "vitest";
import type { LinuxBoot, MultibootBoot } from "../../api-schema/definition.js";
import { VmError } from "../../api-schema/errors.js";
import { FakeMemory } from "../../devices/fakes.js";
import { bzImage, elf32, elf64, multibootHeader, pvhNote } from "./fakes.js";
import { BytesImage } from "./image.js";
import { applyEntry, type BootPlan, openImages, place } from "./index.js";

const MIB = 2 ** 20;
const filled = (length: number, value: number): Uint8Array => new Uint8Array(length).fill(value);

type Files = Readonly<Record<string, Uint8Array>>;

const planOf = (boot: LinuxBoot | MultibootBoot, files: Files, memory = 64 * MIB): BootPlan => {
  const open = (path: string): BytesImage => new BytesImage(path, files[path] ?? new Uint8Array(0));
  return openImages(boot, open).plan({ memory, low: memory, rsdp: 0xf2400 });
};

const linux = (
  kernel: Uint8Array,
  more: Partial<LinuxBoot> = {},
  files: Files = {},
  memory = 64 * MIB,
) => planOf({ kind: "linux", kernel: "vmlinuz", ...more }, { vmlinuz: kernel, ...files }, memory);

const multiboot = (
  kernel: Uint8Array,
  more: Partial<MultibootBoot> = {},
  files: Files = {},
  memory = 64 * MIB,
) => planOf({ kind: "multiboot", kernel: "kernel", ...more }, { kernel, ...files }, memory);

class Guest {
  readonly #memory: FakeMemory;
  readonly view: DataView;
  readonly cpu: Record<string, unknown>;

  constructor(plan: BootPlan, memory = 64 * MIB) {
    this.#memory = new FakeMemory(memory);
    place(this.#memory, plan.pieces);
    this.view = new DataView(this.#memory.bytes.buffer);
    const reset = { version: 1, state: { rip: 0xfff0, idtr: { base: 0, limit: 0xffff } } };
    this.cpu = applyEntry(reset, plan.entry).state as Record<string, unknown>;
  }
  u32 = (at: number): number => this.view.getUint32(at, true);
  u64 = (at: number): number => Number(this.view.getBigUint64(at, true));
  bytes = (at: number, length: number): Uint8Array => this.#memory.bytes.subarray(at, at + length);
  text(at: number): string {
    const end = this.#memory.bytes.indexOf(0, at);
    return Buffer.from(this.bytes(at, end - at)).toString("latin1");
  }
}

const codeOf = (act: () => unknown): string => {
  try {
    act();
  } catch (error) {
    if (error instanceof VmError) return error.code;
    throw error;
  }
  return "accepted";
};

describe("a bzImage", () => {
  it("starts at its preferred address by the 32-bit entry", () => {
    const guest = new Guest(linux(bzImage(), { cmdline: "console=ttyS0" }));
    expect(guest.bytes(0x1000000, 4)).toEqual(Uint8Array.of(0, 1, 2, 3));
    expect(guest.cpu).toMatchObject({
      rip: 0x1000000,
      rflags: 2,
      cr0: 0x31,
      gdtr: { base: 0x2000, limit: 0x1f },
      idtr: { base: 0, limit: 0xffff }, // as reset left it
    });
    const gpr = guest.cpu.gpr as number[];
    expect([gpr[6], gpr[3], gpr[5], gpr[7]]).toEqual([0x3000, 0, 0, 0]); // RSI; RBX RBP RDI
    const segments = guest.cpu.segments as Record<string, number>[];
    expect(segments[1]).toEqual({ base: 0, limit: 0xffffffff, access: 0xc09b, selector: 0x10 });
    expect(segments[3]).toEqual({ base: 0, limit: 0xffffffff, access: 0xc093, selector: 0x18 });
    expect(guest.view.getBigUint64(0x2010, true)).toBe(0x00cf9b000000ffffn);
  });

  it("is told of the command line, the initrd, the memory and the ACPI root", () => {
    const initrd = filled(5000, 7);
    const guest = new Guest(linux(bzImage(), { cmdline: "a b", initrd: "i" }, { i: initrd }));
    const zero = 0x3000;
    expect(guest.u32(zero + 0x202)).toBe(0x53726448);
    expect(guest.text(guest.u32(zero + 0x228))).toBe("a b");
    const at = guest.u32(zero + 0x218);
    expect([at % 4096, guest.u32(zero + 0x21c)]).toEqual([0, 5000]);
    expect(at).toBe(64 * MIB - 8192);
    expect(guest.bytes(at, 5000)).toEqual(initrd);
    expect(guest.u64(zero + 0x70)).toBe(0xf2400);
    expect(guest.u32(zero + 0x1e0)).toBe(63 * 1024);
    const entries = Array.from({ length: guest.view.getUint8(zero + 0x1e8) }, (_, index) => {
      const entry = zero + 0x2d0 + index * 20;
      return [guest.u64(entry), guest.u64(entry + 8), guest.u32(entry + 16)];
    });
    expect(entries).toEqual([
      [0, 0x9fc00, 1],
      [0x9fc00, 0x400, 2],
      [0xf0000, 0x10000, 2],
      [0x100000, 63 * MIB, 1],
      [0xe0000000, 0x10000000, 2],
    ]);
  });

  it("goes lower where the preferred address has no room and it may", () => {
    const plan = linux(bzImage(), {}, {}, 8 * MIB);
    expect(plan.entry.rip).toBe(0x200000);
  });

  it("has the command line `auto` when none is given", () => {
    expect(new Guest(linux(bzImage())).text(0x4000)).toBe("auto");
  });

  it.each([
    ["KERNEL_UNKNOWN_FORMAT", () => linux(filled(4096, 0))],
    ["KERNEL_UNKNOWN_FORMAT", () => linux(new Uint8Array(0))],
    ["KERNEL_TRUNCATED", () => linux(bzImage().subarray(0, 0x220))],
    ["KERNEL_TRUNCATED", () => linux(bzImage().subarray(0, 3000))],
    ["KERNEL_TOO_OLD", () => linux(bzImage({ version: 0x209 }))],
    ["KERNEL_NOT_HIGH", () => linux(bzImage({ loadflags: 0 }))],
    ["KERNEL_HEADER_INVALID", () => linux(bzImage({ bootFlag: 0 }))],
    ["KERNEL_HEADER_INVALID", () => linux(bzImage({ alignment: 3 }))],
    ["KERNEL_HEADER_INVALID", () => linux(bzImage({ prefAddress: 1n << 40n }))],
    ["KERNEL_DOES_NOT_FIT", () => linux(bzImage({ initSize: 0x7fffffff }))],
    ["KERNEL_DOES_NOT_FIT", () => linux(bzImage({ relocatable: 0 }), {}, {}, 8 * MIB)],
    ["CMDLINE_TOO_LONG", () => linux(bzImage({ cmdlineSize: 10 }), { cmdline: "x".repeat(11) })],
    ["INITRD_EMPTY", () => linux(bzImage(), { initrd: "i" })],
    ["INITRD_DOES_NOT_FIT", () => linux(bzImage(), { initrd: "i" }, { i: filled(48 * MIB, 1) })],
    [
      "INITRD_DOES_NOT_FIT",
      () => linux(bzImage({ initrdAddrMax: 0x10fffff }), { initrd: "i" }, { i: filled(4096, 1) }),
    ],
  ])("is refused with %s", (code, act) => {
    expect(codeOf(act)).toBe(code);
  });

  it("keeps a command line of exactly the kernel's length", () => {
    const plan = linux(bzImage({ cmdlineSize: 10 }), { cmdline: "x".repeat(10) });
    expect(new Guest(plan).text(0x4000)).toBe("x".repeat(10));
  });
});

const code = { at: 0x1000000, bytes: filled(256, 0x90), memory: 8192 };

describe("a vmlinux", () => {
  it("starts by its PVH note, with start info in EBX", () => {
    const kernel = elf64({ entry: 0x1000000, segments: [code], note: pvhNote(0x1000080) });
    const plan = linux(kernel, { cmdline: "quiet", initrd: "i" }, { i: filled(10, 1) });
    const guest = new Guest(plan);
    expect(guest.cpu).toMatchObject({ rip: 0x1000080, cr0: 0x31 });
    const info = (guest.cpu.gpr as number[])[3] ?? 0;
    expect([guest.u32(info), guest.u32(info + 4), guest.u32(info + 12)]).toEqual([
      0x336ec578, 1, 1,
    ]);
    expect(guest.text(guest.u64(info + 24))).toBe("quiet");
    expect(guest.u64(info + 32)).toBe(0xf2400);
    const module = guest.u64(info + 16);
    expect([guest.u64(module) % 4096, guest.u64(module + 8)]).toEqual([0, 10]);
    const map = guest.u64(info + 40);
    expect([guest.u32(info + 48), guest.u64(map), guest.u64(map + 8), guest.u32(map + 16)]).toEqual(
      [5, 0, 0x9fc00, 1],
    );
  });

  it("starts by the 64-bit protocol without one, memory mapped one to one", () => {
    const guest = new Guest(linux(elf64({ entry: 0x1000010, segments: [code] })));
    expect(guest.cpu).toMatchObject({
      rip: 0x1000010,
      cr0: 0x80000031,
      cr4: 0x20,
      efer: 0x500,
      cr3: 0x16000,
    });
    expect((guest.cpu.gpr as number[])[6]).toBe(0x3000);
    expect((guest.cpu.segments as { access: number }[])[1]?.access).toBe(0xa09b);
    const walk = (address: number): number => {
      const pml4 = guest.u64(0x16000);
      const pdpt = guest.u64((pml4 & ~0xfff) + Math.floor(address / 2 ** 30) * 8);
      const directory = (pdpt & ~0xfff) + (Math.floor(address / 2 ** 21) % 512) * 8;
      return guest.u64(directory);
    };
    expect(walk(0x1000000)).toBe(0x1000083);
    expect(walk(0xffe00000)).toBe(0xffe00083);
    expect(guest.u32(0x3000 + 0x202)).toBe(0x53726448);
  });

  it("has zeroes after what the file has", () => {
    const plan = linux(elf64({ entry: 0x1000000, segments: [code] }));
    expect(new Guest(plan).bytes(0x1000000 + 256, 8192 - 256)).toEqual(filled(8192 - 256, 0));
  });

  const broken = (change: (view: DataView) => void): Uint8Array => {
    const bytes = elf64({ entry: 0x1000000, segments: [code] });
    change(new DataView(bytes.buffer));
    return bytes;
  };
  it.each([
    ["KERNEL_TRUNCATED", () => linux(elf64({ entry: 0, segments: [code] }).subarray(0, 150))],
    ["KERNEL_TRUNCATED", () => linux(broken((v) => v.setBigUint64(32, 1n << 60n, true)))],
    ["KERNEL_TRUNCATED", () => linux(broken((v) => v.setBigUint64(64 + 8, 1n << 62n, true)))],
    ["KERNEL_SEGMENT_INVALID", () => linux(broken((v) => v.setBigUint64(64 + 40, 1n, true)))],
    [
      "KERNEL_SEGMENT_INVALID",
      () => linux(broken((v) => v.setBigUint64(64 + 24, 1n << 40n, true))),
    ],
    ["KERNEL_ELF_UNSUPPORTED", () => linux(broken((v) => v.setUint16(18, 183, true)))],
    ["KERNEL_ELF_UNSUPPORTED", () => linux(broken((v) => v.setUint16(16, 1, true)))],
    ["KERNEL_ELF_UNSUPPORTED", () => linux(broken((v) => v.setUint16(54, 1, true)))],
    ["KERNEL_ELF_UNSUPPORTED", () => linux(broken((v) => v.setUint16(56, 9999, true)))],
    ["KERNEL_ELF_UNSUPPORTED", () => linux(elf32({ entry: 0x100000, segments: [code] }))],
    ["KERNEL_ENTRY_OUTSIDE", () => linux(elf64({ entry: 0x5000000, segments: [code] }))],
    [
      "KERNEL_ENTRY_OUTSIDE",
      () => linux(elf64({ entry: 0x1000000, segments: [code], note: pvhNote(0x10) })),
    ],
    [
      "KERNEL_DOES_NOT_FIT",
      () => linux(elf64({ entry: 0x1000000, segments: [code] }), {}, {}, 16 * MIB),
    ],
    [
      "KERNEL_OVERLAP",
      () =>
        linux(elf64({ entry: 0x1000000, segments: [code, { at: 0x3000, bytes: filled(16, 1) }] })),
    ],
  ])("is refused with %s", (expected, act) => {
    expect(codeOf(act)).toBe(expected);
  });
});

describe("a Multiboot kernel", () => {
  const BASE = 0x100000;
  const withAddresses = (...addresses: number[]): Uint8Array =>
    Buffer.concat([multibootHeader(0x10003, addresses), filled(100, 0x90)]);
  const good = withAddresses(BASE, BASE, 0, BASE + 4096, BASE + 32);

  it("is loaded by its address fields, bss zeroed, and handed the information", () => {
    const guest = new Guest(multiboot(good, { cmdline: "one two" }));
    expect(guest.u32(BASE)).toBe(0x1badb002);
    expect(guest.cpu).toMatchObject({ rip: BASE + 32, cr0: 0x31 });
    const [eax, , , ebx = 0] = guest.cpu.gpr as number[];
    expect(eax).toBe(0x2badb002);
    expect(guest.u32(ebx) & 0x45).toBe(0x45); // memory, command line, map
    expect([guest.u32(ebx + 4), guest.u32(ebx + 8)]).toEqual([639, 63 * 1024]);
    expect(guest.text(guest.u32(ebx + 16))).toBe("kernel one two");
    const map = guest.u32(ebx + 48);
    expect([guest.u32(map), guest.u64(map + 4), guest.u64(map + 12), guest.u32(map + 20)]).toEqual([
      20, 0, 0x9fc00, 1,
    ]);
    expect(guest.u32(ebx + 44)).toBe(5 * 24);
  });

  it("finds its modules page-aligned, above the bss, with their arguments", () => {
    const modules = [{ file: "m1", args: "x=1" }, { file: "m2" }];
    const files = { m1: filled(5000, 1), m2: filled(10, 2) };
    const guest = new Guest(multiboot(good, { modules }, files));
    const info = (guest.cpu.gpr as number[])[3] ?? 0;
    expect([guest.u32(info) & 8, guest.u32(info + 20)]).toEqual([8, 2]);
    const list = guest.u32(info + 24);
    expect([guest.u32(list), guest.u32(list + 4)]).toEqual([BASE + 4096, BASE + 4096 + 5000]);
    expect(guest.text(guest.u32(list + 8))).toBe("m1 x=1");
    expect([guest.u32(list + 16), guest.text(guest.u32(list + 24))]).toEqual([
      BASE + 3 * 4096,
      "m2",
    ]);
    expect(guest.bytes(BASE + 3 * 4096, 10)).toEqual(files.m2);
  });

  it("may be an ELF32 file", () => {
    const bytes = Buffer.concat([multibootHeader(0), filled(64, 0x90)]);
    const kernel = elf32({ entry: BASE + 16, segments: [{ at: BASE, bytes, memory: 8192 }] });
    expect(multiboot(kernel).entry.rip).toBe(BASE + 16);
  });

  it.each([
    ["MULTIBOOT_NO_HEADER", () => multiboot(filled(9000, 0))],
    ["MULTIBOOT_NO_HEADER", () => multiboot(Buffer.concat([filled(8190, 0), good]))],
    ["MULTIBOOT_FLAGS", () => multiboot(multibootHeader(4))],
    ["MULTIBOOT_HEADER_INVALID", () => multiboot(multibootHeader(0))],
    ["MULTIBOOT_HEADER_INVALID", () => multiboot(multibootHeader(0x10000))],
    ["MULTIBOOT_HEADER_INVALID", () => multiboot(withAddresses(BASE, BASE + 4, 0, 0, BASE))],
    ["MULTIBOOT_HEADER_INVALID", () => multiboot(withAddresses(BASE + 9, BASE, 0, 0, BASE))],
    ["MULTIBOOT_HEADER_INVALID", () => multiboot(withAddresses(BASE, BASE, BASE - 1, 0, BASE))],
    ["MULTIBOOT_HEADER_INVALID", () => multiboot(withAddresses(BASE, BASE, 0, BASE + 1, BASE))],
    ["KERNEL_TRUNCATED", () => multiboot(withAddresses(BASE, BASE, BASE + 99999, 0, BASE))],
    ["KERNEL_ENTRY_OUTSIDE", () => multiboot(withAddresses(BASE, BASE, 0, 0, BASE - 1))],
    ["KERNEL_OVERLAP", () => multiboot(withAddresses(0x2000, 0x2000, 0, 0, 0x2000))],
    [
      "KERNEL_ELF_UNSUPPORTED",
      () => multiboot(elf64({ entry: BASE, segments: [{ at: BASE, bytes: multibootHeader(0) }] })),
    ],
    [
      "MODULE_DOES_NOT_FIT",
      () => multiboot(good, { modules: [{ file: "m" }] }, { m: filled(64 * MIB, 0) }),
    ],
  ])("is refused with %s", (expected, act) => {
    expect(codeOf(act)).toBe(expected);
  });
});

describe("a hostile image", () => {
  /** xorshift32: the seed is printed by the test's name. */
  const random = (seed: number) => () => {
    seed ^= seed << 13;
    seed ^= seed >>> 17;
    seed ^= seed << 5;
    return seed >>> 0;
  };
  const samples: readonly (readonly [string, Uint8Array, (bytes: Uint8Array) => unknown])[] = [
    ["bzImage", bzImage(), linux],
    ["vmlinux", elf64({ entry: 0x1000000, segments: [code], note: pvhNote(0x1000080) }), linux],
    [
      "Multiboot",
      elf32({ entry: 0x100000, segments: [{ at: 0x100000, bytes: multibootHeader(3) }] }),
      multiboot,
    ],
  ];
  it.each(samples)("%s with 2000 random changes (seed 1) is loaded or refused", (_, good, load) => {
    const next = random(1);
    for (let round = 0; round < 2000; round++) {
      const bytes = good.slice(0, next() % 4 === 0 ? next() % good.length : good.length);
      const limit = Math.min(bytes.length, 0x300);
      for (let change = 0; limit > 0 && change < 4; change++) bytes[next() % limit] = next() & 0xff;
      codeOf(() => load(bytes));
    }
  });
});
