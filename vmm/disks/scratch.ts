// A nameless file over a disk that is only read.
import { randomUUID } from "node:crypto";
import { closeSync, constants, unlinkSync } from "node:fs";
import { join } from "node:path";
import { reasonOf } from "../../api-schema/errors.js";
import { ScratchBackend } from "../../devices/block/scratch.js";
import type { HostFiles } from "../host-files.js";
import { type OpenDisk, unusable } from "./types.js";

const { O_RDWR, O_CREAT, O_EXCL } = constants;

/** Takes the base over. Throws VmError IMAGE_UNUSABLE, the base being closed. */
export function openScratch(folder: string, base: OpenDisk, files: HostFiles): OpenDisk {
  const fd = openNameless(folder, base, files);
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

function openNameless(folder: string, base: OpenDisk, files: HostFiles): number {
  const name = join(folder, `.xhyved-${randomUUID()}`);
  try {
    const fd = files.open(name, O_RDWR | O_CREAT | O_EXCL, 0o600);
    unlinkSync(name);
    return fd;
  } catch (error) {
    base.close();
    throw unusable(name, reasonOf(error), error);
  }
}
