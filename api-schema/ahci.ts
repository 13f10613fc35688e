// AHCI controllers: bhyve's forms with one port, and one with up to 32.
import { type Static, Type } from "@sinclair/typebox";
import { type DiskSource, diskSource, HostPath, keptImage } from "./disk.js";
import { closed, PciSlot } from "./shape.js";

/** What lies in a drive; none where `path` is absent. It is only read, and may be shared. */
export const cdMedium = {
  path: Type.Optional(HostPath),
  format: diskSource.format,
  export: diskSource.export,
} as const;

const cdDrive = { ...cdMedium, serial: diskSource.serial } as const;

/** A controller with one disk. */
export const AhciHdDevice = closed({
  slot: PciSlot,
  type: Type.Literal("ahci-hd"),
  ...diskSource,
  ...keptImage,
});
/** A controller with one CD drive. */
export const AhciCdDevice = closed({
  slot: PciSlot,
  type: Type.Literal("ahci-cd"),
  ...cdDrive,
  ...keptImage,
});
export const AhciPort = Type.Union([
  closed({ type: Type.Literal("hd"), ...diskSource, ...keptImage }),
  closed({ type: Type.Literal("cd"), ...cdDrive, ...keptImage }),
]);
/** As clients may give them: with the name of an image, its path is filled in. */
export const AhciPortWish = Type.Union(
  AhciPort.anyOf.map((port) => closed({ ...port.properties, path: Type.Optional(HostPath) })),
);
export const AhciDevice = closed({
  slot: PciSlot,
  type: Type.Literal("ahci"),
  ports: Type.Array(AhciPort, { minItems: 1, maxItems: 32 }),
});

export type AhciPort = Static<typeof AhciPort>;
export type AnyAhciDevice = Static<typeof AhciHdDevice | typeof AhciCdDevice | typeof AhciDevice>;
export type CdMedium = Pick<Extract<AhciPort, { type: "cd" }>, "path" | "format" | "export">;

export const isAhci = <T extends { readonly type: string }>(
  device: T,
): device is Extract<T, AnyAhciDevice> =>
  device.type === "ahci" || device.type === "ahci-hd" || device.type === "ahci-cd";

/** Whatever its form, what hangs on its ports. */
export function ahciPorts(device: AnyAhciDevice): readonly AhciPort[] {
  switch (device.type) {
    case "ahci":
      return device.ports.map(({ image: _, ...port }) => port);
    case "ahci-hd": {
      const { slot: _, image: __, ...rest } = device;
      return [{ ...rest, type: "hd" }];
    }
    case "ahci-cd": {
      const { slot: _, image: __, ...rest } = device;
      return [{ ...rest, type: "cd" }];
    }
  }
}

/** What a drive's medium is to who opens images; undefined: nothing lies in it. */
export const mediumSource = ({ path, ...rest }: CdMedium): DiskSource | undefined =>
  path === undefined ? undefined : { path, ...rest, readOnly: true };
