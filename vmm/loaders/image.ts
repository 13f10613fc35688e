// A file that goes into the guest. Opened once and kept, so that a reset reloads the same file even
// after it was replaced under its name. Every read is bounded by the size at the opening: what a
// header claims is never trusted.
import { closeSync, constants, fstatSync, readSync } from "node:fs";
import { reasonOf, VmError } from "../../api-schema/errors.js";
import type { OpenFile } from "../host-files.js";

export interface Image {
  readonly name: string;
  readonly size: number;
  /**
   * Exactly `length` bytes; KERNEL_TRUNCATED, naming `what`, where the file has not so many. They
   * lie in `room` where it is given, which then has at least `length` bytes.
   */
  read(at: number, length: number, what: string, room?: Uint8Array): Uint8Array;
  close(): void;
}

export function truncated(image: Image, what: string, needed: number): VmError {
  return new VmError("KERNEL_TRUNCATED", [image.name, what, needed, image.size]);
}

function checkBounds(image: Image, at: number, length: number, what: string): void {
  if (at + length > image.size) throw truncated(image, what, at + length);
}

export class FileImage implements Image {
  readonly name: string;
  readonly size: number;
  readonly #fd: number;

  constructor(path: string, open: OpenFile) {
    this.name = path;
    try {
      // O_NONBLOCK: opening a pipe would wait for a writer. Node opens all files close-on-exec.
      this.#fd = open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    } catch (error) {
      throw new VmError("FILE_UNREADABLE", [path, reasonOf(error)], { cause: error });
    }
    const info = fstatSync(this.#fd);
    this.size = info.size;
    if (!info.isFile()) {
      this.close();
      throw new VmError("FILE_UNREADABLE", [path, "it is not a regular file"]);
    }
  }

  read(at: number, length: number, what: string, room?: Uint8Array): Uint8Array {
    checkBounds(this, at, length, what);
    const bytes = room?.subarray(0, length) ?? Buffer.allocUnsafeSlow(length);
    let done = 0;
    while (done < length) {
      const count = this.#readSome(bytes, done, at + done);
      if (count === 0) throw new VmError("FILE_CHANGED", [this.name]);
      done += count;
    }
    return bytes;
  }

  close(): void {
    closeSync(this.#fd);
  }

  #readSome(into: Uint8Array, offset: number, at: number): number {
    try {
      return readSync(this.#fd, into, offset, into.length - offset, at);
    } catch (error) {
      throw new VmError("FILE_UNREADABLE", [this.name, reasonOf(error)], { cause: error });
    }
  }
}

/** An image that is in memory already: tests', and the machine's own. */
export class BytesImage implements Image {
  readonly name: string;
  readonly #bytes: Uint8Array;

  constructor(name: string, bytes: Uint8Array) {
    this.name = name;
    this.#bytes = bytes;
  }

  get size(): number {
    return this.#bytes.length;
  }

  read(at: number, length: number, what: string): Uint8Array {
    checkBounds(this, at, length, what);
    return this.#bytes.subarray(at, at + length);
  }

  close(): void {}
}

export const viewOf = (bytes: Uint8Array): DataView =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
