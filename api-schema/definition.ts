// What a VM is, as clients give it, the daemon stores it and the VM process builds it. One schema:
// a validator that fills in `default` first (ajv's useDefaults, TypeBox's Value.Default) turns what
// a client wrote into a whole VmDefinition.
import { type Static, Type } from "@sinclair/typebox";
import { AhciCdDevice, AhciDevice, AhciHdDevice, AhciPortWish } from "./ahci.js";
import { CloudInit } from "./cloud-init.js";
import { diskSource, HostPath, ImageName, keptImage } from "./disk.js";
import { hostSockets, networkCard } from "./network.js";
import { closed, Labels, literals, PciSlot } from "./shape.js";
import { supervision } from "./supervision.js";

export { HostPath, PciSlot };

const MIB = 2 ** 20;
const PAGE = 4096;
const MAX_MEMORY = 2 ** 40;
const MAX_CPUS = 64;
export const MAX_DEVICES = 256;

/** Linux's own limit is 2048 with the NUL; the loader checks what the kernel says it takes. */
const CommandLine = Type.String({
  maxLength: 65535,
  pattern: "^[^\\u0000]*$",
  description: "a text of at most 65535 characters without a NUL",
});

export const VmName = Type.String({
  pattern: "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$",
  description: "1 to 63 letters, digits, dots, underscores and hyphens; first a letter or digit",
});

export const VmUuid = Type.String({
  pattern: "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$",
  description: "a UUID: 32 hexadecimal digits as 8-4-4-4-12",
});

export const LinuxBoot = closed({
  kind: Type.Literal("linux"),
  kernel: HostPath,
  initrd: Type.Optional(HostPath),
  cmdline: Type.Optional(CommandLine),
});

export const MultibootModule = closed({ file: HostPath, args: Type.Optional(CommandLine) });

export const MultibootBoot = closed({
  kind: Type.Literal("multiboot"),
  kernel: HostPath,
  modules: Type.Optional(Type.Array(MultibootModule, { maxItems: 64 })),
  cmdline: Type.Optional(CommandLine),
});

export const Boot = Type.Union([LinuxBoot, MultibootBoot]);

const serialBackends = ["console", "stdio", "pty", "terminal", "file", "socket", "none"] as const;
const cable = {
  /** Of a terminal, a file or a Unix socket; a link to the pseudo-terminal for `pty`. */
  path: Type.Optional(HostPath),
  /** A file that all output goes to besides, kept under a limit as that of `file`. */
  log: Type.Optional(HostPath),
};
const serialPort = (fallback: (typeof serialBackends)[number]) =>
  closed({ backend: literals(serialBackends, fallback), ...cable }, { default: {} });

/** What a bridge does is all in its type. */
const Bridge = closed({
  slot: PciSlot,
  type: literals(["hostbridge", "amd_hostbridge", "lpc"]),
});
const PciUart = closed({
  slot: PciSlot,
  type: Type.Literal("uart"),
  /** Nothing is plugged in where it is absent: no member of a union can have defaults (ajv). */
  serial: Type.Optional(closed({ backend: literals(serialBackends), ...cable })),
});

/** The original's test device: scratch registers. */
const Dummy = closed({ slot: PciSlot, type: Type.Literal("dummy") });

const VirtioBlkDevice = closed({
  slot: PciSlot,
  type: Type.Literal("virtio-blk"),
  ...diskSource,
  ...keptImage,
  /** 1 where absent. */
  queues: Type.Optional(Type.Integer({ minimum: 1, maximum: 64 })),
});
const VirtioRndDevice = closed({
  slot: PciSlot,
  type: Type.Literal("virtio-rnd"),
  /** Bytes a second; as fast as the host can where absent. */
  rate: Type.Optional(Type.Integer({ minimum: 1, maximum: 2 ** 30 })),
});
/** A console of one port. */
const VirtioConsoleDevice = closed({
  slot: PciSlot,
  type: Type.Literal("virtio-console"),
  serial: Type.Optional(closed({ backend: literals(serialBackends), ...cable })),
});

const VirtioNetDevice = closed({
  slot: PciSlot,
  type: Type.Literal("virtio-net"),
  ...networkCard,
});
const VirtioSockDevice = closed({
  slot: PciSlot,
  type: Type.Literal("virtio-sock"),
  ...hostSockets,
});

/** Told apart by `type`: each has the options of its own type and no others. */
export const PciDevice = Type.Union([
  Bridge,
  PciUart,
  Dummy,
  AhciHdDevice,
  AhciCdDevice,
  AhciDevice,
  VirtioBlkDevice,
  VirtioRndDevice,
  VirtioConsoleDevice,
  VirtioNetDevice,
  VirtioSockDevice,
]);

/**
 * As clients may give them: without a slot, one is assigned and kept (api-schema/slots.ts); with the
 * name of an image, its path is filled in.
 */
export const PciDeviceWish = Type.Unsafe<PciDeviceWish>(
  Type.Union(
    PciDevice.anyOf.flatMap((device) => {
      const properties = {
        ...device.properties,
        slot: Type.Optional(PciSlot),
        ...("ports" in device.properties
          ? { ports: Type.Array(AhciPortWish, { minItems: 1, maxItems: 32 }) }
          : {}),
      };
      const needsPath = (device.required as readonly string[]).includes("path");
      if (!("image" in device.properties) || !needsPath) return [closed(properties)];
      const ofImage = { image: ImageName, path: Type.Optional(HostPath) };
      return [closed(properties), closed({ ...properties, ...ofImage })];
    }),
  ),
);

export const Serial = closed(
  { com1: serialPort("console"), com2: serialPort("none") },
  { default: {} },
);

export const Firmware = closed(
  {
    acpi: Type.Boolean({ default: true }),
    mpTable: Type.Boolean({ default: true }),
    /** vCPUs start with their local APIC in x2APIC mode (-x). */
    x2apic: Type.Boolean({ default: false }),
    rtc: literals(["utc", "localtime"], "utc"),
    /** An access that nothing decodes ends the VM (-e). */
    strictIo: Type.Boolean({ default: false }),
    /** An unknown MSR reads 0 and swallows writes (-w) instead of #GP(0). */
    ignoreUnknownMsrs: Type.Boolean({ default: false }),
  },
  { default: {} },
);

/** Of a definition that says nothing of devices. */
export const defaultDevices = [
  { slot: "0:0", type: "hostbridge" },
  { slot: "31:0", type: "lpc" },
] as const;

export const acceleratorNames = ["auto", "soft", "kvm", "hvf"] as const;

/**
 * What CPUID shows. `stable`: one model that is the same on every host and accelerator, so that saved
 * states move anywhere. `host`: the host's own CPU, less what cannot be saved (docs/kvm.md), on kvm
 * alone; states move only to the same CPU.
 */
export const cpuModelNames = ["stable", "host"] as const;

export const VmDefinition = closed(
  {
    name: VmName,
    uuid: VmUuid,
    cpus: Type.Integer({ minimum: 1, maximum: MAX_CPUS, default: 1 }),
    /** Bytes. */
    memory: Type.Integer({
      minimum: MIB,
      maximum: MAX_MEMORY,
      multipleOf: PAGE,
      default: 256 * MIB,
    }),
    accelerator: literals(acceleratorNames, "auto"),
    cpuModel: literals(cpuModelNames, "stable"),
    boot: Boot,
    devices: Type.Array(PciDevice, { maxItems: MAX_DEVICES, default: defaultDevices }),
    serial: Serial,
    /** A disc for the guest's cloud-init, in a CD drive besides `devices`. */
    cloudInit: Type.Optional(CloudInit),
    /** The LPC device that ends the VM with a status of the guest's choice (port 0xF4). */
    debugexit: Type.Boolean({ default: false }),
    /** The LPC device with latches, interrupt lines and exit-only memory for conformance guests. */
    testdev: Type.Boolean({ default: false }),
    firmware: Firmware,
    /** False: virtio devices have one MSI message or INTx, no MSI-X (-W). */
    virtioMsix: Type.Boolean({ default: true }),
    /** Seconds between the power button and the stop that follows. */
    shutdownTimeout: Type.Integer({ minimum: 1, maximum: 86400, default: 60 }),
    labels: Labels,
    ...supervision,
  },
  { $id: "VmDefinition" },
);

export type VmDefinition = Static<typeof VmDefinition>;
export type LinuxBoot = Static<typeof LinuxBoot>;
export type MultibootBoot = Static<typeof MultibootBoot>;
export type PciDevice = Static<typeof PciDevice>;
export type PciDeviceWish = PciDevice extends infer D
  ? D extends PciDevice
    ? Omit<D, "slot"> & { slot?: string }
    : never
  : never;
export type VirtioBlkDevice = Static<typeof VirtioBlkDevice>;
export type SerialPort = VmDefinition["serial"]["com1"];
export type Serial = Static<typeof Serial>;
export type Firmware = Static<typeof Firmware>;
export type CpuModelName = (typeof cpuModelNames)[number];
export type AcceleratorName = (typeof acceleratorNames)[number];
