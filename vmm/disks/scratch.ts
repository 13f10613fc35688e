// A nameless file over a disk that is only read.
import { randomUUID } from "node:crypto";
import { closeSync, openSync, unlinkSync } from "node:fs";
import { join } from "node:path";
import { reasonOf } from "../../api-schema/errors.js";
import { ScratchBackend } from "../../devices/block/scratch.js";
import { type OpenDisk, unusable } from "./types.js";

/** Takes the base over. Throws VmError IMAGE_UNUSABLE, the base being closed. */
export function openScratch(folder: string, base: OpenDisk): OpenDisk {
  const fd = openNameless(folder, base);
  return {
    geometry: { ...base.geometry, readOnly: false },
    backend: (host) => {
      const { machine, onStall } = host;
      const file = machine.io.file(fd);
      return new ScratchBackend({ base: base.backend(host), file, clock: machine.clock, onStall });
    },
    close: () => {
      closeSync(fd);
      base.close();
    },
  };
}

function openNameless(folder: string, base: OpenDisk): number {
  const name = join(folder, `.xhyved-${randomUUID()}`);
  try {
    const fd = openSync(name, "wx+", 0o600);
    unlinkSync(name);
    return fd;
  } catch (error) {
    base.close();
    throw unusable(name, reasonOf(error), error);
  }
}
