// Opening an image: everything that can be found wrong is found before it is used.
import { canInflate } from "./compressed.js";
import { ImageFault } from "./fault.js";
import { type Header, INCOMPATIBLE, parseHeader } from "./header.js";
import { type Contents, type ImageBytes, scan } from "./scan.js";

export interface OpenedImage {
  readonly header: Header;
  readonly l1: Uint8Array;
  /** Of one that is to be written to. */
  readonly contents: Contents | undefined;
}

const HEADER_BYTES = 65536;

export interface OpenOptions {
  readonly readOnly: boolean;
  /** Refcounts that are too low are a fault of a dirty image too; else they are mended. */
  readonly strict?: boolean;
}

/** Throws ImageFault; changes nothing. */
export function openImage(
  image: ImageBytes,
  { readOnly, strict = false }: OpenOptions,
): OpenedImage {
  const header = parseHeader(image.read(0, HEADER_BYTES));
  if (!canInflate(header.compression))
    throw new ImageFault("its clusters are compressed with zstd, which this version of Node lacks");
  if (header.incompatible & INCOMPATIBLE.corrupt && !readOnly)
    throw new ImageFault("it is marked as corrupt: `qemu-img check -r all` may mend it");
  if (readOnly) return { header, l1: l1Of(image, header), contents: undefined };
  const contents = scan(image, header, strict);
  return { header, l1: contents.l1, contents };
}

function l1Of(image: ImageBytes, { l1Offset, l1Entries, clusterBits }: Header): Uint8Array {
  const length = 8 * l1Entries;
  if (length === 0) return new Uint8Array(0);
  if (l1Offset % 2 ** clusterBits !== 0)
    throw new ImageFault("its L1 table is not at the begin of a cluster");
  const bytes = image.read(l1Offset, length);
  if (bytes.length < length) throw new ImageFault("its L1 table is outside the file");
  return bytes;
}
