// The MP configuration table (Intel MultiProcessor Specification 1.4, §4), for guests without ACPI.
import { VmError } from "../../api-schema/errors.js";
import { IO_APIC, LOCAL_APIC, MP_TABLE } from "../layout.js";
import { setChecksum } from "./acpi.js";
import { join, littleEndian } from "./aml.js";
import { type FirmwareConfig, PCI_PINS, PCI_SLOTS } from "./config.js";

const u8 = (value: number): Uint8Array => littleEndian(value, 1);
const u16 = (value: number): Uint8Array => littleEndian(value, 2);
const u32 = (value: number): Uint8Array => littleEndian(value, 4);
const text = (value: string, length: number): Uint8Array =>
  new TextEncoder().encode(value.padEnd(length));

const FLOATING_SIZE = 16;
const HEADER_SIZE = 44;
const SPEC_1_4 = 4;
const LOCAL_APIC_VERSION = 0x14; // both as their version registers have it
const IO_APIC_VERSION = 0x20;
const ENABLED = 1;
const BOOTSTRAP = 2;
const SIGNATURE = 0x6a5; // family 6, model 10, stepping 5 (§4.3.1): a guest asks CPUID anyway
const FEATURES = 0x0781_abff; // what every x86-64 has

const BUS = { pci: 0, isa: 1 } as const;
const ALL = 0xff;
const KIND = { interrupt: 0, nmi: 1, external: 3 } as const;
const CONFORMS = 0;
const LEVEL_LOW = 0xf; // §4.3.4: bits 1:0 polarity, 3:2 trigger
const SCI = 9;
const CASCADE = 2;

/** §4.3.1. */
const processor = (id: number): Uint8Array =>
  join(
    Uint8Array.of(0, id, LOCAL_APIC_VERSION, id === 0 ? ENABLED | BOOTSTRAP : ENABLED),
    u32(SIGNATURE),
    u32(FEATURES),
    new Uint8Array(8),
  );

/** §4.3.2. */
const bus = (id: number, name: string): Uint8Array => join(Uint8Array.of(1, id), text(name, 6));

/** §4.3.4 (to the IO-APIC) and §4.3.5 (local). */
const interrupt = (
  entry: 3 | 4,
  kind: number,
  flags: number,
  [sourceBus, source]: readonly [number, number],
  [destination, pin]: readonly [number, number],
): Uint8Array =>
  join(Uint8Array.of(entry, kind), u16(flags), Uint8Array.of(sourceBus, source, destination, pin));

function isaInterrupts(ioApic: number): readonly Uint8Array[] {
  const external = interrupt(3, KIND.external, CONFORMS, [BUS.isa, 0], [ioApic, 0]);
  const rest = Array.from({ length: 16 }, (_, irq) => irq).filter((irq) => irq !== CASCADE);
  return [
    external,
    ...rest.map((irq) =>
      interrupt(
        3,
        KIND.interrupt,
        irq === SCI ? LEVEL_LOW : CONFORMS,
        [BUS.isa, irq],
        [ioApic, irq === 0 ? 2 : irq],
      ),
    ),
  ];
}

const pciInterrupts = (config: FirmwareConfig, ioApic: number): readonly Uint8Array[] =>
  Array.from({ length: PCI_SLOTS * PCI_PINS }, (_, index) => {
    const [slot, pin] = [Math.floor(index / PCI_PINS), index % PCI_PINS];
    const source = (slot << 2) | pin; // §D.3
    const to = [ioApic, config.gsiOf(slot, pin)] as const;
    return interrupt(3, KIND.interrupt, LEVEL_LOW, [BUS.pci, source], to);
  });

export function mpTable(config: FirmwareConfig): { at: number; bytes: Uint8Array } {
  const ioApic = 0; // as the MADT has it: the APICs of CPUs and I/O do not share a bus here
  const entries = [
    ...Array.from({ length: config.cpus }, (_, id) => processor(id)),
    bus(BUS.pci, "PCI"),
    bus(BUS.isa, "ISA"),
    join(Uint8Array.of(2, ioApic, IO_APIC_VERSION, ENABLED), u32(IO_APIC.base)),
    ...isaInterrupts(ioApic),
    ...pciInterrupts(config, ioApic),
    interrupt(4, KIND.external, CONFORMS, [BUS.isa, 0], [ALL, 0]),
    interrupt(4, KIND.nmi, CONFORMS, [BUS.isa, 0], [ALL, 1]),
  ];
  const body = join(...entries);
  const header = join(
    text("PCMP", 4),
    u16(HEADER_SIZE + body.length),
    u8(SPEC_1_4),
    u8(0),
    text("BHyVe", 8),
    text("Hypervisor", 12),
    u32(0),
    u16(0),
    u16(entries.length),
    u32(LOCAL_APIC.base),
    u32(0),
  );
  const table = join(header, body);
  setChecksum(table, 7);
  const bytes = join(floatingPointer(MP_TABLE.base + FLOATING_SIZE), table);
  if (bytes.length > MP_TABLE.size) {
    throw new VmError("FIRMWARE_TABLES_TOO_LARGE", ["MP", bytes.length, MP_TABLE.size]);
  }
  return { at: MP_TABLE.base, bytes };
}

/** §4.1; feature bytes 0: a configuration table is present, no IMCR. */
function floatingPointer(table: number): Uint8Array {
  const bytes = join(text("_MP_", 4), u32(table), Uint8Array.of(1, SPEC_1_4, 0), new Uint8Array(5));
  setChecksum(bytes, 10);
  return bytes;
}
