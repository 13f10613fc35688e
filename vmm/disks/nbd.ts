// Disks behind an NBD server on a Unix socket.
import type { DiskSource } from "../../api-schema/disk.js";
import { reasonOf } from "../../api-schema/errors.js";
import { NbdBackend } from "../../devices/block/nbd/backend.js";
import { type Connected, connectNbd, disconnectNbd } from "../../devices/block/nbd/handshake.js";
import { EXPORT } from "../../devices/block/nbd/protocol.js";
import { Buffers } from "../../devices/block/pieces.js";
import { geometryOf, type OpenDisk, unusable } from "./types.js";

const PAGE = 4096;

/** Rejects with VmError IMAGE_UNUSABLE, the connection being closed. */
export async function openNbd(source: DiskSource): Promise<OpenDisk> {
  const { path, export: name = "", sync = false } = source;
  const connected = await connect(path, name);
  try {
    const { info } = connected;
    const readOnly = (source.readOnly ?? false) || (info.flags & EXPORT.readOnly) !== 0;
    const geometry = geometryOf(source, info.size, readOnly);
    check(source, connected, geometry.logicalSector);
    return {
      geometry,
      backend: ({ machine, onStall, log }) => {
        const buffers = new Buffers(machine.io, machine.memory, PAGE);
        const options = { connected, path, name, geometry, buffers, sync, onStall, log };
        return new NbdBackend(options);
      },
      close: () => disconnectNbd(connected.socket),
    };
  } catch (error) {
    disconnectNbd(connected.socket);
    throw error;
  }
}

async function connect(path: string, name: string): Promise<Connected> {
  try {
    return await connectNbd(path, name);
  } catch (error) {
    const { code = "" } = error as { code?: string };
    const nobody = ["ENOENT", "ECONNREFUSED", "ENOTSOCK"].includes(code);
    throw unusable(path, nobody ? `no NBD server listens there (${code})` : reasonOf(error), error);
  }
}

function check({ path, sync, direct }: DiskSource, { info }: Connected, sector: number): void {
  if (sector % info.minBlock !== 0)
    throw unusable(path, `the server needs a logicalSector of ${info.minBlock}`);
  if (sync && (info.flags & EXPORT.fua) === 0)
    throw unusable(path, "the server cannot write through (FUA), which sync needs");
  if (direct) throw unusable(path, "only raw images can go past the page cache");
}
