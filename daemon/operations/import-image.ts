// A file becomes one of the daemon's images: copied (by reference where the file system can), and
// where the client said what its SHA-256 is, refused at another. A clone is an import of an image.
import { createHash } from "node:crypto";
import { createReadStream, statSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { ImageFormat } from "../../api-schema/images.js";
import { VmError } from "../../api-schema/index.js";
import { diskSize, type Images } from "../images/images.js";
import { alsoNamed, writeCopy } from "./copy-file.js";
import type { OperationContext, OperationKind } from "./operations.js";

export const IMPORT_IMAGE = "image.import";

export interface ImportInput {
  readonly name: string;
  readonly format: ImageFormat;
  readonly file: string;
  readonly sha256?: string | undefined;
}

export const importImage = (images: Images): OperationKind<ImportInput> => ({
  unit: "bytes",
  async run({ name, format, file, sha256 }, context) {
    const path = images.path(name, format);
    // Checked before it has its name; what an earlier daemon brought to its name was checked.
    const checked = join(images.folder, `.${name}.${context.id}`);
    const result = { image: name };
    try {
      // Begun again after a sudden end that came when it was done.
      const there = statSync(path, { throwIfNoEntry: false });
      if (there !== undefined && there.ctimeMs >= context.created) return result;
      images.requireFree(name);
      const steps = sha256 === undefined ? 1 : 2;
      const size = sizeOf(file);
      await writeCopy(file, checked, {
        signal: context.signal,
        progress: (bytes) => context.progress(bytes, steps * size),
      });
      if (sha256 !== undefined) await requireDigest(checked, { name, sha256 }, context);
      if (format === "qcow2" && diskSize(checked, format) === 0)
        throw new VmError("STORED_IMAGE_UNFIT", [name, `${file} is no qcow2 image`]);
      images.requireFree(name);
      context.signal.throwIfAborted();
      await alsoNamed(checked, path);
      context.progress(steps * size, steps * size);
      return result;
    } finally {
      await rm(checked, { force: true });
    }
  },
});

/** 0 where it cannot be looked at: the copy says why. */
const sizeOf = (file: string): number => statSync(file, { throwIfNoEntry: false })?.size ?? 0;

async function requireDigest(
  path: string,
  { name, sha256 }: { name: string; sha256: string },
  { signal, progress }: OperationContext,
): Promise<void> {
  const size = sizeOf(path);
  const hash = createHash("sha256");
  let done = 0;
  for await (const piece of createReadStream(path, { signal, highWaterMark: 2 ** 20 })) {
    hash.update(piece as Buffer);
    done += (piece as Buffer).length;
    progress(size + done, 2 * size);
  }
  const found = hash.digest("hex");
  if (found !== sha256) throw new VmError("STORED_IMAGE_DIGEST", [name, found, sha256]);
}
