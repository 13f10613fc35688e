// The DSDT: what a guest can learn of this machine only by ACPI's names (ACPI 6.4 §5.6, §6).
import { ECAM, HPET, PCI_MEM32, PM_TIMER, PM1_EVENT, SMI_COMMAND } from "../layout.js";
import * as aml from "./aml.js";
import { type FirmwareConfig, PCI_PINS, PCI_SLOTS } from "./config.js";
import * as resources from "./resources.js";

const { device, integer, method, name, path, pkg } = aml;

export function dsdtBody(config: FirmwareConfig): aml.Aml {
  return aml.join(
    // \_S5 (§7.4.2): SLP_TYP for PM1a and PM1b, two reserved. No other sleep state exists.
    name("\\_S5", pkg(integer(5), integer(5), integer(0), integer(0))),
    name("\\PICM", integer(0)),
    method("\\_PIC", 1, aml.store(aml.arg(0), path("\\PICM"))), // §5.8.1: 0 PIC, 1 APIC
    aml.scope(
      "\\_SB",
      ...processors(config.cpus),
      motherboard(),
      pciRoot(config),
      ...(config.lpcSlot === undefined ? [] : links()),
      hpet(),
    ),
  );
}

const hid = (id: string): aml.Aml => name("_HID", aml.eisaId(id));
const uid = (value: number): aml.Aml => name("_UID", integer(value));
const crs = (...descriptors: readonly aml.Aml[]): aml.Aml =>
  name("_CRS", resources.template(...descriptors));

/** §8.4 Processor devices; _UID is the MADT's ACPI processor UID. */
const processors = (count: number): readonly aml.Aml[] =>
  Array.from({ length: count }, (_, index) =>
    device(
      `C${index.toString(16).toUpperCase().padStart(3, "0")}`,
      name("_HID", aml.string("ACPI0007")),
      uid(index),
    ),
  );

/** Motherboard resources: PCI Firmware 3.2 §4.1.2 wants ECAM claimed by one of these. */
const motherboard = (): aml.Aml =>
  device(
    "MBRD",
    hid("PNP0C02"),
    uid(0),
    crs(
      resources.memory32(ECAM.base, ECAM.size),
      resources.io(0x61, 1), // NMI status and speaker
      resources.io(0x80, 1), // POST codes
      resources.io(SMI_COMMAND, 1),
      resources.io(PM1_EVENT, 8), // and PM1 control
      resources.io(PM_TIMER, 4),
    ),
  );

const hpet = (): aml.Aml =>
  device("HPET", hid("PNP0103"), uid(0), crs(resources.memory32(HPET.base, HPET.size)));

const CONFIG_PORTS = 0xcf8;

function pciRoot(config: FirmwareConfig): aml.Aml {
  const windows = [
    resources.busWindow(0, 256),
    resources.io(CONFIG_PORTS, 8),
    resources.ioWindow(0, CONFIG_PORTS),
    resources.ioWindow(CONFIG_PORTS + 8, 0x1_0000 - CONFIG_PORTS - 8),
    resources.memoryWindow32(PCI_MEM32.base, PCI_MEM32.size),
    resources.memoryWindow64(config.pciMemory64.base, config.pciMemory64.size),
  ];
  return device(
    "PC00",
    hid("PNP0A08"),
    name("_CID", aml.eisaId("PNP0A03")),
    name("_BBN", integer(0)),
    name("_SEG", integer(0)),
    uid(0),
    crs(...windows),
    osc(),
    ...routing(config),
    ...(config.lpcSlot === undefined ? [] : [isaBridge(config.lpcSlot)]),
  );
}

const PCI_OSC = "33db4d5b-1ff7-401c-9657-7441c03dd766"; // PCI Firmware 3.2 §4.5.1
const OSC_BAD_UUID = 0x04; // ACPI 6.4 §6.2.11.1.3
const OSC_BAD_REVISION = 0x08;
const OSC_MASKED = 0x10;

/** No native control of anything: no hot-plug, PME, AER or LTR exists here. */
function osc(): aml.Aml {
  const [status, control] = [path("CDW1"), path("CDW3")];
  const flag = (bits: number): aml.Aml => aml.or(status, integer(bits), status);
  return method(
    "_OSC",
    4,
    aml.createDWordField(aml.arg(3), 0, "CDW1"),
    aml.when(
      aml.equal(aml.arg(0), aml.uuid(PCI_OSC)),
      aml.when(aml.not(aml.equal(aml.arg(1), integer(1))), flag(OSC_BAD_REVISION)),
      aml.when(aml.less(aml.arg(2), integer(3)), aml.ret(aml.arg(3))),
      aml.createDWordField(aml.arg(3), 8, "CDW3"),
      aml.when(aml.not(aml.equal(control, integer(0))), flag(OSC_MASKED)),
      aml.store(integer(0), control),
    ),
    aml.otherwise(flag(OSC_BAD_UUID)),
    aml.ret(aml.arg(3)),
  );
}

const LETTERS = ["A", "B", "C", "D", "E", "F", "G", "H"] as const;
const linkName = (index: number): string => `LNK${LETTERS[index & 7]}`;
const registerName = (index: number): string => `PIR${LETTERS[index & 7]}`;

/** §6.2.13 _PRT: every slot and pin, by IO-APIC pin or by link device. */
function routing(config: FirmwareConfig): readonly aml.Aml[] {
  const table = (source: (slot: number, pin: number) => readonly [aml.Aml, aml.Aml]): aml.Aml =>
    pkg(
      ...slotsAndPins.map(([slot, pin]) =>
        pkg(integer(slot * 0x1_0000 + 0xffff), integer(pin), ...source(slot, pin)),
      ),
    );
  const apic = table((slot, pin) => [integer(0), integer(config.gsiOf(slot, pin))]);
  const apicOnly = [name("_PRT", apic)];
  if (config.lpcSlot === undefined) return apicOnly;
  const pic = table((slot, pin) => [
    path(`\\_SB.${linkName(config.pirqOf(slot, pin))}`),
    integer(0),
  ]);
  return [
    name("PRTA", apic),
    name("PRTP", pic),
    method(
      "_PRT",
      0,
      aml.when(path("\\PICM"), aml.ret(path("PRTA"))),
      aml.otherwise(aml.ret(path("PRTP"))),
    ),
  ];
}

const slotsAndPins: readonly (readonly [number, number])[] = Array.from(
  { length: PCI_SLOTS * PCI_PINS },
  (_, index) => [Math.floor(index / PCI_PINS), index % PCI_PINS] as const,
);

const PIRQ_A = 0x60; // configuration registers of the LPC bridge: A to D, then E to H at 0x68
const ISA_PATH = "\\_SB.PC00.ISA_";

const isaBridge = (slot: number): aml.Aml =>
  device(
    "ISA_",
    name("_ADR", integer(slot * 0x1_0000)),
    aml.operationRegion("PIRR", "pciConfig", PIRQ_A, 12),
    aml.byteField(
      "PIRR",
      ...[0, 1, 2, 3].map((index) => ({ name: registerName(index), bits: 8 })),
      { skip: 32 },
      ...[4, 5, 6, 7].map((index) => ({ name: registerName(index), bits: 8 })),
    ),
    legacyDevice("COM1", "PNP0501", 1, resources.io(0x3f8, 8), resources.irq(4)),
    legacyDevice("COM2", "PNP0501", 2, resources.io(0x2f8, 8), resources.irq(3)),
    legacyDevice("RTC_", "PNP0B00", 0, resources.io(0x70, 2), resources.irq(8)),
    legacyDevice("TIMR", "PNP0100", 0, resources.io(0x40, 4), resources.irq(0)),
    legacyDevice(
      "PIC_",
      "PNP0000",
      0,
      resources.io(0x20, 2),
      resources.io(0xa0, 2),
      resources.io(0x4d0, 2),
      resources.irq(2),
    ),
  );

const legacyDevice = (
  at: string,
  id: string,
  unique: number,
  ...descriptors: readonly aml.Aml[]
): aml.Aml => device(at, hid(id), uid(unique), crs(...descriptors));

const links = (): readonly aml.Aml[] => LETTERS.map((_, index) => link(index));

/** What no ISA device here uses; 9 is the SCI's. */
const LINK_IRQS = [5, 6, 7, 10, 11, 12, 14, 15] as const;
const DISABLED = 0x80; // of a PIRQ register; bits 3:0 are the IRQ

/** §6.2.13 PCI interrupt link device over one PIRQ register. */
function link(index: number): aml.Aml {
  const register = path(`${ISA_PATH}.${registerName(index)}`);
  const disabled = aml.and(register, integer(DISABLED));
  return device(
    linkName(index),
    hid("PNP0C0F"),
    uid(index + 1),
    method("_STA", 0, aml.when(disabled, aml.ret(integer(0x09))), aml.ret(integer(0x0b))),
    name("_PRS", resources.template(resources.sharedIrq(...LINK_IRQS))),
    name("BUFF", resources.template(resources.sharedIrq())),
    aml.createWordField(path("BUFF"), 1, "IRQW"),
    method(
      "_CRS",
      0,
      aml.when(disabled, aml.store(integer(0), path("IRQW"))),
      aml.otherwise(aml.shiftLeft(integer(1), aml.and(register, integer(0x0f)), path("IRQW"))),
      aml.ret(path("BUFF")),
    ),
    method("_DIS", 0, aml.store(integer(DISABLED), register)),
    method(
      "_SRS",
      1,
      aml.createWordField(aml.arg(0), 1, "IRQS"),
      aml.findSetRightBit(path("IRQS"), aml.local(0)),
      aml.when(aml.local(0), aml.store(aml.subtract(aml.local(0), integer(1)), register)),
    ),
  );
}
