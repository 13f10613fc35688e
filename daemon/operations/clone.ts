// Another VM of one that is off: the definition with a name and UUID of its own, and a copy of each
// disk that is written to. It is defined when its disks are there, and not before.
import { randomUUID } from "node:crypto";
import { rmSync, statSync } from "node:fs";
import {
  type DiskPlace,
  disksOf,
  isWritten,
  mapDisks,
  saidOf,
} from "../../api-schema/disk-places.js";
import {
  type CloneBody,
  type CreateVm,
  forbidden,
  type PciDevice,
  parse,
  VmDefinition,
  VmError,
} from "../../api-schema/index.js";
import { admit } from "../supervisor/admission.js";
import type { Supervisor } from "../supervisor/supervisor.js";
import type { VmDriver } from "../supervisor/vm-driver.js";
import { alsoNamed, isOneFile, writeCopy } from "./copy-file.js";
import type { OperationContext, OperationKind } from "./operations.js";

export const CLONE = "vm.clone";

export interface CloneInput {
  /** UUID of the original. */
  readonly from: string;
  readonly uuid: string;
  readonly body: CloneBody;
}

interface Copy {
  readonly from: string;
  readonly to: string;
}

/**
 * The name under which a copy is written. It keeps it until the clone is defined, beside the one that
 * was asked for: so what a daemon that ended had copied is known as this operation's.
 */
const writtenAs = (to: string, { id }: OperationContext): string => `${to}.${id}`;

/** Throws what can be known at once; what changes meanwhile is found out at its turn. */
export function checkClone(
  supervisor: Supervisor,
  driver: VmDriver,
  body: CloneBody,
  remote: boolean,
): CloneInput {
  const verdict = admit(driver.state, "clone");
  if (verdict.kind === "deny") throw forbidden(verdict.state, "clone");
  const { definition } = driver.row;
  const uuid = (body.uuid ?? randomUUID()).toLowerCase();
  const clone = cloneOf(definition, body, uuid);
  copiesFor(definition, body);
  supervisor.check(clone, { remote }, definition);
  return { from: driver.uuid, uuid, body };
}

export const cloneVm = (supervisor: Supervisor): OperationKind<CloneInput> => ({
  unit: "bytes",
  async run({ from, uuid, body }, context) {
    const targets = Object.values(body.disks);
    try {
      const defined = supervisor.list().find((driver) => driver.uuid === uuid);
      const clone =
        defined ??
        (await supervisor.find(from).whileOff(async (original) => {
          const definition = cloneOf(original, body, uuid);
          const sources = copiesFor(original, body);
          supervisor.check(definition);
          await copyAll(sources, context);
          return supervisor.create(definition);
        }));
      return { vm: uuid, name: clone.name };
    } catch (error) {
      for (const to of targets)
        if (isOneFile(to, writtenAs(to, context))) rmSync(to, { force: true });
      throw error;
    } finally {
      for (const to of targets) rmSync(writtenAs(to, context), { force: true });
    }
  },
});

function cloneOf(original: VmDefinition, body: CloneBody, uuid: string): CreateVm {
  const own = { name: body.name, uuid, template: false, protected: false };
  const devices = mapDisks(original.devices.map(withOwnAddress), (place, name) => {
    const path = saidOf(body.disks, name);
    return path === undefined ? place : onFile(place, path);
  });
  const merged: Record<string, unknown> = { ...original, ...own, devices, ...body.changes, ...own };
  for (const [field, value] of Object.entries(body.changes ?? {}))
    if (value === null) delete merged[field];
  return parse(VmDefinition, merged, "body.changes");
}

/** An address that was given is the original's; the clone's comes of its own UUID. */
function withOwnAddress(device: PciDevice): PciDevice {
  if (device.type !== "virtio-net") return device;
  const { mac: _, ...rest } = device;
  return rest;
}

/** The copy is a file: the name of a stored image would lead back to the original's disk. */
function onFile({ image: _, ...place }: DiskPlace, path: string): DiskPlace {
  return { ...place, path };
}

function copiesFor({ devices }: VmDefinition, { disks }: CloneBody): Copy[] {
  const all = disksOf(devices);
  for (const one of Object.keys(disks))
    if (!all.some(({ name }) => saidOf({ [one]: true }, name)))
      throw new VmError("CLONE_DISK_UNKNOWN", [one]);
  return all.flatMap(({ name, place }) => {
    const to = saidOf(disks, name);
    if (to === undefined && isWritten(place)) throw new VmError("CLONE_DISK_MISSING", [name]);
    return to !== undefined && place.path !== undefined ? [{ from: place.path, to }] : [];
  });
}

async function copyAll(copies: readonly Copy[], context: OperationContext): Promise<void> {
  const { signal, progress } = context;
  const total = copies.reduce((sum, { from }) => sum + sizeOf(from), 0);
  let before = 0;
  for (const { from, to } of copies) {
    const written = writtenAs(to, context);
    if (!isOneFile(to, written)) {
      await writeCopy(from, written, {
        signal,
        progress: (bytes) => progress(before + bytes, total),
      });
      await alsoNamed(written, to);
    }
    before += sizeOf(from);
    progress(before, total);
  }
}

const sizeOf = (path: string): number => {
  try {
    return statSync(path).size;
  } catch {
    return 0; // the copy says why
  }
};
