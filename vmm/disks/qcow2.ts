// qcow2 images, and what they lie over. Only the definition says what that is: a guest that can
// write to an image could write any path of the host into its header.
import { closeSync } from "node:fs";
import type { BackingImage, DiskSource } from "../../api-schema/disk.js";
import { reasonOf, VmError } from "../../api-schema/errors.js";
import type { BlockBackend, BlockGeometry } from "../../devices/block/backend.js";
import { Qcow2Backend } from "../../devices/block/qcow2/backend.js";
import { ImageFault } from "../../devices/block/qcow2/fault.js";
import { type OpenedImage, openImage } from "../../devices/block/qcow2/open.js";
import { RawBackend } from "../../devices/block/raw.js";
import { host as nativeHost } from "../../native/host.js";
import type { HostFiles } from "../host-files.js";
import { type ImageFile, imageBytes, openImageFile } from "./file.js";
import { type DiskHost, geometryOf, type OpenDisk, unusable } from "./types.js";

/** Throws VmError IMAGE_UNUSABLE or IMAGE_LOCKED, with nothing left open. */
export function openQcow2(source: DiskSource, files: HostFiles): OpenDisk {
  const { backing = [], ...above } = source;
  if (source.direct) throw unusable(source.path, "only raw images can go past the page cache");
  return openLayer(above, backing, files);
}

function openLayer(
  layer: DiskSource,
  backing: readonly BackingImage[],
  files: HostFiles,
): OpenDisk {
  const file = openImageFile(layer.path, layer, files);
  try {
    if (file.device) throw unusable(layer.path, "a qcow2 image is a file, not a block device");
    const image = parse(file);
    checkBacking(layer.path, image, backing);
    const geometry = geometryOf(layer, image.header.size, file.readOnly);
    return qcow2Disk(file, image, geometry, openBelow(backing, files)); // last: nothing to undo
  } catch (error) {
    closeSync(file.fd);
    throw error;
  }
}

function parse(file: ImageFile): OpenedImage {
  try {
    return openImage(imageBytes(file.fd), file);
  } catch (error) {
    throw unusable(file.path, error instanceof ImageFault ? error.message : reasonOf(error), error);
  }
}

function checkBacking(path: string, image: OpenedImage, backing: readonly BackingImage[]): void {
  const { backingName } = image.header;
  if (backingName !== undefined && backing.length === 0)
    throw unusable(
      path,
      `it lies over ${backingName}, which the definition's backing does not name`,
    );
  if (backingName === undefined && backing.length > 0)
    throw unusable(path, "the definition names a backing image, but it lies over none");
}

/** What a layer lies over; read only, together with other VMs. */
function openBelow(backing: readonly BackingImage[], files: HostFiles): OpenDisk | undefined {
  const [nearest, ...rest] = backing;
  if (nearest === undefined) return undefined;
  const layer = { path: nearest.path, readOnly: true };
  if (nearest.format === "qcow2") return openLayer(layer, rest, files);
  if (rest.length > 0) throw unusable(nearest.path, "a raw image lies over none");
  return openRawLayer(openImageFile(nearest.path, layer, files));
}

function openRawLayer(file: ImageFile): OpenDisk {
  const geometry = { size: file.size, logicalSector: 512, physicalSector: 512, readOnly: true };
  return {
    geometry,
    backend: ({ machine }) =>
      new RawBackend({ file: machine.io.file(file.fd), geometry, clock: machine.clock }),
    close: () => closeSync(file.fd),
  };
}

function qcow2Disk(
  file: ImageFile,
  image: OpenedImage,
  geometry: BlockGeometry,
  below: OpenDisk | undefined,
): OpenDisk {
  return {
    geometry,
    backend: (host) => backend(file, image, geometry, { host, below: below?.backend(host) }),
    close: () => {
      below?.close();
      closeSync(file.fd);
    },
  };
}

function backend(
  file: ImageFile,
  image: OpenedImage,
  geometry: BlockGeometry,
  { host, below }: { host: DiskHost; below: BlockBackend | undefined },
): Qcow2Backend {
  const { machine, onStall, log } = host;
  try {
    return new Qcow2Backend({
      ...image,
      ...{ geometry, below, onStall, log },
      ...{ io: machine.io, memory: machine.memory, clock: machine.clock },
      image: imageBytes(file.fd),
      file: machine.io.file(nativeHost().duplicate(file.fd)),
      release: () => closeSync(file.fd),
    });
  } catch (error) {
    throw error instanceof VmError ? error : unusable(file.path, reasonOf(error), error);
  }
}
