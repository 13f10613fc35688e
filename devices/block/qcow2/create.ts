// New images, and larger ones. All of it at once and before anything else uses the file.
import { ImageFault } from "./fault.js";
import {
  FIELD,
  type Header,
  INCOMPATIBLE,
  LIMIT,
  MAGIC,
  parseHeader,
  setU64,
  V3_LENGTH,
  viewOf,
} from "./header.js";
import { setRefcount } from "./refcount-block.js";
import type { ImageBytes } from "./scan.js";

export interface NewImage {
  /** Bytes of the disk. */
  readonly size: number;
  /** 65536 where absent. */
  readonly clusterSize?: number;
  readonly version?: 2 | 3;
  /** Noted for other programs; here the definition says what an image lies over. */
  readonly backing?: { readonly path: string; readonly format: "raw" | "qcow2" };
}

const BACKING_FORMAT = 0xe2792aca;
const REFCOUNT_ORDER = 4;

/** Into an empty file. Throws ImageFault. */
export function createImage(image: ImageBytes, options: NewImage): void {
  const { clusterSize = 65536, size } = options;
  const clusterBits = Math.log2(clusterSize);
  if (
    !Number.isInteger(clusterBits) ||
    clusterBits < LIMIT.minClusterBits ||
    clusterBits > LIMIT.maxClusterBits
  )
    throw new ImageFault(`a cluster size of ${clusterSize} is no power of two from 512 to 2097152`);
  if (!(size > 0) || size % 512 !== 0)
    throw new ImageFault(`a size of ${size} bytes is no multiple of 512`);
  const l1Entries = Math.ceil(size / (clusterSize * (clusterSize / 8)));
  if (8 * l1Entries > LIMIT.l1Bytes)
    throw new ImageFault(`${size} bytes are too many for clusters of ${clusterSize}`);
  write(image, options, { clusterSize, l1Entries });
}

/** Header, refcount table, its blocks, L1 table: in this order. */
function write(
  image: ImageBytes,
  options: NewImage,
  { clusterSize, l1Entries }: { clusterSize: number; l1Entries: number },
): void {
  const l1Clusters = Math.ceil((8 * l1Entries) / clusterSize);
  const perBlock = clusterSize / 2;
  let blocks = 1;
  let tables = 1;
  const used = (): number => 1 + tables + blocks + l1Clusters;
  while (blocks * perBlock < used() || (tables * clusterSize) / 8 < blocks) {
    blocks = Math.ceil(used() / perBlock);
    tables = Math.ceil((8 * blocks) / clusterSize);
  }
  const layout = { clusterSize, l1Entries, tables, blocks, used: used() };
  const table = new Uint8Array(8 * blocks);
  for (let i = 0; i < blocks; i++) setU64(viewOf(table), 8 * i, (1 + tables + i) * clusterSize);
  image.truncate(layout.used * clusterSize);
  for (let i = 0; i < blocks; i++)
    image.write((1 + tables + i) * clusterSize, refcounts(layout, i, perBlock));
  image.write(clusterSize, table);
  image.sync();
  image.write(0, header(options, layout));
  image.sync();
}

interface Layout {
  readonly clusterSize: number;
  readonly l1Entries: number;
  readonly tables: number;
  readonly blocks: number;
  readonly used: number;
}

function refcounts({ clusterSize, used }: Layout, index: number, perBlock: number): Uint8Array {
  const block = new Uint8Array(clusterSize);
  const count = Math.min(perBlock, used - index * perBlock);
  for (let i = 0; i < count; i++) setRefcount(block, i, REFCOUNT_ORDER, 1);
  return block;
}

function header({ size, version = 3, backing }: NewImage, layout: Layout): Uint8Array {
  const { clusterSize, l1Entries, tables, blocks } = layout;
  const name = Buffer.from(backing?.path ?? "");
  const format = Buffer.from(backing?.format ?? "");
  const length = version === 3 ? V3_LENGTH : 72;
  // An extension's data is padded to a multiple of 8; one of type 0 ends them.
  const extension = backing === undefined ? 0 : 8 + Math.ceil(format.length / 8) * 8;
  const bytes = new Uint8Array(length + extension + 8 + name.length);
  const view = viewOf(bytes);
  if (name.length > LIMIT.backingName || bytes.length > clusterSize)
    throw new ImageFault("the backing file's path is too long");
  view.setUint32(FIELD.magic, MAGIC);
  view.setUint32(FIELD.version, version);
  view.setUint32(FIELD.clusterBits, Math.log2(clusterSize));
  setU64(view, FIELD.size, size);
  view.setUint32(FIELD.l1Entries, l1Entries);
  setU64(view, FIELD.l1Offset, (1 + tables + blocks) * clusterSize);
  setU64(view, FIELD.refcountTableOffset, clusterSize);
  view.setUint32(FIELD.refcountTableClusters, tables);
  if (version === 3) {
    view.setUint32(FIELD.refcountOrder, REFCOUNT_ORDER);
    view.setUint32(FIELD.headerLength, length);
  }
  if (backing === undefined) return bytes;
  view.setUint32(length, BACKING_FORMAT);
  view.setUint32(length + 4, format.length);
  bytes.set(format, length + 8);
  setU64(view, FIELD.backingOffset, bytes.length - name.length);
  view.setUint32(FIELD.backingLength, name.length);
  bytes.set(name, bytes.length - name.length);
  return bytes;
}

/** To more bytes than it has; the new ones are zeros. Throws ImageFault. */
export function growImage(image: ImageBytes, size: number): void {
  const first = parseHeader(image.read(0, 65536));
  checkGrowth(first, size);
  const cluster = 2 ** first.clusterBits;
  const entries = Math.ceil(size / (cluster * (cluster / 8)));
  const room = (Math.ceil((8 * first.l1Entries) / cluster) * cluster) / 8;
  if (entries > room)
    throw new ImageFault(`its tables have room for ${room * cluster * (cluster / 8)} bytes`);
  const bytes = image.read(0, FIELD.snapshots);
  const l1Entries = Math.max(entries, first.l1Entries);
  // What is behind the table in its last cluster need not be zeros.
  image.write(
    first.l1Offset + 8 * first.l1Entries,
    new Uint8Array(8 * (l1Entries - first.l1Entries)),
  );
  image.sync();
  setU64(viewOf(bytes), FIELD.size, size);
  viewOf(bytes).setUint32(FIELD.l1Entries, l1Entries);
  image.write(0, bytes);
  image.sync();
}

function checkGrowth(header: Header, size: number): void {
  if (size % 512 !== 0 || !(size < 2 ** 53))
    throw new ImageFault(`a size of ${size} bytes is no multiple of 512`);
  if (size < header.size) throw new ImageFault("it cannot be made smaller");
  if (header.snapshots > 0) throw new ImageFault("it has snapshots, which have its size");
  if (header.incompatible & INCOMPATIBLE.corrupt) throw new ImageFault("it is marked as corrupt");
}
