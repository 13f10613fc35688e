// The disk images that the daemon keeps: NAME.raw and NAME.qcow2 in a folder of its state. The files
// are all there is: one appears whole under its name, by link(2), or not at all.
import {
  closeSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  rmSync,
  statSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { VmError } from "../../api-schema/errors.js";
import type { ImageFormat, ImageView } from "../../api-schema/images.js";
import { reasonOf } from "../../api-schema/index.js";
import { createImage, growImage } from "../../devices/block/qcow2/create.js";
import { parseHeader } from "../../devices/block/qcow2/header.js";
import type { ImageBytes } from "../../devices/block/qcow2/scan.js";
import { host } from "../../native/host.js";

const FORMATS: readonly ImageFormat[] = ["raw", "qcow2"];
const HEADER_BYTES = 65_536;
const BLOCK = 512;

/** Names of the VMs that use an image. */
export type Users = (image: string) => string[];

export interface StoredImage {
  readonly name: string;
  readonly format: ImageFormat;
  readonly path: string;
}

export class Images {
  readonly folder: string;

  constructor(stateDir: string) {
    this.folder = join(stateDir, "images");
    mkdirSync(this.folder, { recursive: true, mode: 0o700 });
  }

  /** Throws STORED_IMAGE_NOT_FOUND. */
  find(name: string): StoredImage {
    const found = this.#lookUp(name);
    if (found === undefined) throw new VmError("STORED_IMAGE_NOT_FOUND", [name]);
    return found;
  }

  /** Throws STORED_IMAGE_EXISTS: a name is one image's, whatever its format. */
  requireFree(name: string): void {
    if (this.#lookUp(name) !== undefined) throw new VmError("STORED_IMAGE_EXISTS", [name]);
  }

  /** Where an image of this name is, or will be. */
  path(name: string, format: ImageFormat): string {
    return join(this.folder, `${name}.${format}`);
  }

  names(): string[] {
    const files = readdirSync(this.folder).flatMap((file) => {
      const at = file.lastIndexOf(".");
      return FORMATS.some((format) => file.slice(at + 1) === format) && !file.startsWith(".")
        ? [file.slice(0, at)]
        : [];
    });
    return [...new Set(files)].sort();
  }

  view(name: string, users: Users): ImageView {
    const { format, path } = this.find(name);
    const { blocks, mtime } = statSync(path);
    return {
      ...{ name, format, path },
      size: diskSize(path, format),
      allocated: blocks * BLOCK,
      usedBy: users(name),
      changed: mtime.toISOString(),
    };
  }

  /** All zeros. Throws STORED_IMAGE_EXISTS or STORED_IMAGE_UNFIT. */
  create(name: string, format: ImageFormat, size: number): void {
    this.requireFree(name);
    const path = this.path(name, format);
    const unfinished = join(this.folder, `.${name}.new`);
    rmSync(unfinished, { force: true });
    try {
      withFile(unfinished, "wx+", (image) => {
        if (format === "raw") image.truncate(size);
        else createImage(image, { size });
        image.sync();
      });
      linkSync(unfinished, path);
    } catch (error) {
      throw new VmError("STORED_IMAGE_UNFIT", [name, reasonOf(error)], { cause: error });
    } finally {
      rmSync(unfinished, { force: true });
    }
    this.#onDisk();
  }

  /** Throws STORED_IMAGE_UNFIT where it would be smaller, STORED_IMAGE_IN_USE while it is copied. */
  grow(name: string, size: number): void {
    const { path, format } = this.find(name);
    try {
      withFile(path, "r+", (image, fd) => {
        if (!host().lockFile(fd)) throw new VmError("STORED_IMAGE_IN_USE", [name, "a copy"]);
        if (format === "qcow2") return growImage(image, size);
        if (size < image.size()) throw new Error("it cannot be made smaller");
        image.truncate(size);
        image.sync();
      });
    } catch (error) {
      if (error instanceof VmError) throw error;
      throw new VmError("STORED_IMAGE_UNFIT", [name, reasonOf(error)], { cause: error });
    }
  }

  remove(name: string): void {
    rmSync(this.find(name).path);
    this.#onDisk();
  }

  #lookUp(name: string): StoredImage | undefined {
    for (const format of FORMATS) {
      const path = this.path(name, format);
      if (statSync(path, { throwIfNoEntry: false })?.isFile()) return { name, format, path };
    }
    return undefined;
  }

  #onDisk(): void {
    const fd = openSync(this.folder, "r");
    try {
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
  }
}

/** Of the disk that a guest sees; 0 where the file is no such image. */
export function diskSize(path: string, format: ImageFormat): number {
  if (format === "raw") return statSync(path).size;
  try {
    return withFile(path, "r", (image) => parseHeader(image.read(0, HEADER_BYTES)).size);
  } catch {
    return 0; // the VM that uses it says what is wrong
  }
}

function withFile<T>(path: string, flags: string, use: (image: ImageBytes, fd: number) => T): T {
  const fd = openSync(path, flags, 0o600);
  try {
    const image: ImageBytes = {
      size: () => fstatSync(fd).size,
      read(offset, length) {
        const bytes = new Uint8Array(length);
        return bytes.subarray(0, readSync(fd, bytes, 0, length, offset));
      },
      write(offset, bytes) {
        for (let done = 0; done < bytes.length; )
          done += writeSync(fd, bytes, done, bytes.length - done, offset + done);
      },
      truncate: (size) => ftruncateSync(fd, size),
      sync: () => fsyncSync(fd),
    };
    return use(image, fd);
  } finally {
    closeSync(fd);
  }
}
