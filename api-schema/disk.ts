// What stands behind a disk, the same for every device that has one (virtio-blk, AHCI).
import { type Static, Type } from "@sinclair/typebox";
import { HOST_PATH } from "./host-paths.js";
import { closed, literals } from "./shape.js";

/** A host path: absolute or not is for who reads it; never with a NUL. */
export const HostPath = Type.String({
  minLength: 1,
  maxLength: 4095,
  pattern: "^[^\\u0000]+$",
  description: "a path of 1 to 4095 characters without a NUL",
  [HOST_PATH]: true,
});

/** What a disk image that the daemon keeps is called. */
export const ImageName = Type.String({
  pattern: "^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$",
  description: "1 to 63 letters, digits, underscores and hyphens; first a letter or digit",
});

/** In a device's own shape: the daemon fills in `path` and `format` from its image's name. */
export const keptImage = { image: Type.Optional(ImageName) } as const;

export const SectorSize = Type.Integer({ minimum: 512, maximum: 65536 });

const MAX_BACKING = 16;

/** An image that another one is laid over. Its format is said, never guessed: a guest wrote it. */
export const BackingImage = closed({ path: HostPath, format: literals(["raw", "qcow2"]) });

/**
 * Spread into a device's own shape. No member has a default: members of a union cannot (ajv).
 *
 * A path that holds a qcow2 image is refused unless `format` says what it is to be: what a guest
 * can write into a raw disk must not make the host open other files.
 */
export const diskSource = {
  /** An image file, a block device of the host; of `nbd`, the server's Unix socket. */
  path: HostPath,
  /** `raw` where absent. */
  format: Type.Optional(literals(["raw", "qcow2", "nbd"])),
  /** The export's name of an NBD server; its default one where absent. */
  export: Type.Optional(Type.String({ maxLength: 4096, pattern: "^[^\\u0000]*$" })),
  /** What a qcow2 image lies over, nearest first. An image's own word for it is never followed. */
  backing: Type.Optional(Type.Array(BackingImage, { minItems: 1, maxItems: MAX_BACKING })),
  /**
   * A folder. The image is only read then; what the guest writes goes to a nameless file there and
   * is gone with the VM.
   */
  scratch: Type.Optional(HostPath),
  readOnly: Type.Optional(Type.Boolean()),
  /** Every write is on the medium before the guest hears of its end. */
  sync: Type.Optional(Type.Boolean()),
  /** Past the host's page cache; raw images alone. */
  direct: Type.Optional(Type.Boolean()),
  /** Where absent, a block device's own, else 512. */
  logicalSector: Type.Optional(SectorSize),
  /** Where absent, a block device's own, else the logical one. */
  physicalSector: Type.Optional(SectorSize),
  /** Where absent, of the path: the same in every run. */
  serial: Type.Optional(Type.String({ pattern: "^[\\x20-\\x7e]{0,20}$" })),
} as const;

const DiskSource = Type.Object(diskSource);
export type DiskSource = Static<typeof DiskSource>;
export type BackingImage = Static<typeof BackingImage>;
