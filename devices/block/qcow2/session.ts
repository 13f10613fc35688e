// The begin and the end of writing to an image: done at once, while nothing else touches it. In
// between the dirty bit is set (version 3), so that every program that opens the image after a
// crash looks for clusters that were left over.
import type { Clusters, Write } from "./clusters.js";
import { FIELD, type Header, INCOMPATIBLE } from "./header.js";
import type { ImageBytes } from "./scan.js";

export class ImageSession {
  readonly #image: ImageBytes;
  readonly #header: Header;
  readonly #log: (text: string) => void;

  constructor(image: ImageBytes, header: Header, log: (text: string) => void) {
    this.#image = image;
    this.#header = header;
    this.#log = log;
  }

  /** Throws what the host does. */
  begin(clusters: Clusters): void {
    if (this.#header.autoclear)
      this.#log("features of the image that only other programs keep up (bitmaps) end here");
    this.#setFeatures(true);
    this.#write(clusters.stages());
  }

  /** Leaves the image dirty where the host lets it down. */
  end(clusters: Clusters, unwritten: readonly Write[]): void {
    try {
      this.#write([[...unwritten], ...clusters.stages()]);
      const size = clusters.finish();
      this.#write(clusters.stages());
      if (this.#image.size() > size) this.#image.truncate(size);
      this.#setFeatures(false);
    } catch (error) {
      this.#log(`the image stays marked as dirty: ${String(error)}`);
    }
  }

  #write(stages: readonly (readonly Write[])[]): void {
    for (const stage of stages) {
      for (const { offset, bytes } of stage) this.#image.write(offset, bytes);
      this.#image.sync();
    }
  }

  /** What the autoclear bits stood for does not hold once something has been written. */
  #setFeatures(dirty: boolean): void {
    if (this.#header.version === 2) return;
    const bytes = new Uint8Array(24);
    const others = this.#header.incompatible & ~INCOMPATIBLE.dirty;
    bytes[7] = others | (dirty ? INCOMPATIBLE.dirty : 0);
    bytes.set(this.#image.read(FIELD.compatible, 8), 8);
    this.#image.write(FIELD.incompatible, bytes);
    this.#image.sync();
  }
}
