// Disk images that the daemon keeps: files of its state folder with names, which definitions use by
// `image: NAME` instead of a path.
import { type Static, Type } from "@sinclair/typebox";
import { HostPath, ImageName } from "./disk.js";
import { closed, count, literals } from "./shape.js";

export const ImageFormat = literals(["raw", "qcow2"]);

/** Of the disk that a guest sees, in bytes: at most 64 TiB. */
const DiskSize = Type.Integer({ minimum: 512, maximum: 2 ** 46, multipleOf: 512 });

export const ImageView = closed(
  {
    name: ImageName,
    format: ImageFormat,
    /** Bytes of the disk that a guest sees. */
    size: count,
    /** Bytes of the host's that it takes. */
    allocated: count,
    /** Where it lies on the host. */
    path: Type.String(),
    /** Names of the VMs whose definitions use it. */
    usedBy: Type.Array(Type.String()),
    /** RFC 3339, UTC. */
    changed: Type.String(),
  },
  { $id: "Image" },
);

export const ImageList = closed(
  {
    images: Type.Array(ImageView),
    /** Where there are more: the `cursor` that goes on. */
    next: Type.Optional(Type.String()),
  },
  { $id: "ImageList" },
);

export const ImageListQuery = closed({
  limit: Type.Integer({ minimum: 1, maximum: 1000, default: 1000 }),
  /** `next` of the page before. */
  cursor: Type.Optional(ImageName),
});

export const ImagePath = closed({ image: ImageName });

/** An empty disk: all zeros, which take no room. */
export const CreateImage = closed(
  { name: ImageName, format: ImageFormat, size: DiskSize },
  { $id: "CreateImage" },
);

export const ImportImage = closed(
  {
    name: ImageName,
    format: ImageFormat,
    /** The file to copy. */
    file: HostPath,
    /** SHA-256 of the file in hexadecimal; at another one nothing is imported. */
    sha256: Type.Optional(
      Type.String({ pattern: "^[0-9a-f]{64}$", description: "64 small hexadecimal digits" }),
    ),
  },
  { $id: "ImportImage" },
);

export const CloneImage = closed({ name: ImageName }, { $id: "CloneImage" });
export const GrowImage = closed({ size: DiskSize }, { $id: "GrowImage" });

export type ImageFormat = Static<typeof ImageFormat>;
export type ImageView = Static<typeof ImageView>;
export type ImageList = Static<typeof ImageList>;
export type CreateImage = Static<typeof CreateImage>;
export type ImportImage = Static<typeof ImportImage>;
