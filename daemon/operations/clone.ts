// Another VM of one that is off: the definition with a name and UUID of its own, and a copy of each
// disk that is written to. It is defined when its disks are there, and not before.
import { randomUUID } from "node:crypto";
import { rmSync, statSync } from "node:fs";
import {
  type CloneBody,
  type CreateVm,
  type PciDevice,
  parse,
  VmDefinition,
  VmError,
} from "../../api-schema/index.js";
import { admit } from "../supervisor/admission.js";
import type { Supervisor } from "../supervisor/supervisor.js";
import type { VmDriver } from "../supervisor/vm-driver.js";
import { copyFile } from "./copy-file.js";
import type { OperationKind } from "./operations.js";

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

/** Throws what can be known at once; what changes meanwhile is found out at its turn. */
export function checkClone(
  supervisor: Supervisor,
  driver: VmDriver,
  body: CloneBody,
  remote: boolean,
): CloneInput {
  const verdict = admit(driver.state, "clone");
  if (verdict.kind === "deny") throw new VmError("VM_STATE_FORBIDS", [verdict.state, "clone"]);
  const { definition } = driver.row;
  const uuid = (body.uuid ?? randomUUID()).toLowerCase();
  const clone = cloneOf(definition, body, uuid);
  copiesFor(definition, body);
  supervisor.check(clone, { remote }, definition);
  return { from: driver.uuid, uuid, body };
}

export const cloneVm = (supervisor: Supervisor): OperationKind<CloneInput> => ({
  unit: "bytes",
  async run({ from, uuid, body }, { id, signal, progress }) {
    const done = supervisor.list().find((driver) => driver.uuid === uuid);
    if (done !== undefined) return { vm: uuid, name: done.name }; // begun again after a sudden end
    return supervisor.find(from).whileOff(async (definition) => {
      const copies = copiesFor(definition, body);
      const clone = cloneOf(definition, body, uuid);
      supervisor.check(clone);
      await copyAll(copies, id, signal, progress);
      try {
        supervisor.create(clone);
      } catch (error) {
        for (const { to } of copies) rmSync(to, { force: true });
        throw error;
      }
      return { vm: uuid, name: clone.name };
    });
  },
});

function cloneOf(original: VmDefinition, body: CloneBody, uuid: string): CreateVm {
  const own = { name: body.name, uuid, template: false, protected: false };
  const devices = original.devices.map((device) => {
    const path = body.disks[device.slot];
    return path !== undefined && "path" in device ? onFile(device, path) : device;
  });
  const merged: Record<string, unknown> = { ...original, ...own, devices, ...body.changes, ...own };
  for (const [field, value] of Object.entries(body.changes ?? {}))
    if (value === null) delete merged[field];
  return parse(VmDefinition, merged, "body.changes");
}

/** The copy is a file: the name of a stored image would lead back to the original's disk. */
function onFile(device: PciDevice, path: string): object {
  const { image: _, ...rest } = device as PciDevice & { image?: string };
  return { ...rest, path };
}

/** A disk is what has an image behind it; a CD-ROM, say, is only read. */
const isWritten = (device: PciDevice): boolean =>
  "path" in device &&
  device.type !== "ahci-cd" &&
  !("readOnly" in device && device.readOnly === true);

function copiesFor({ devices }: VmDefinition, { disks }: CloneBody): Copy[] {
  for (const slot of Object.keys(disks))
    if (!devices.some((device) => device.slot === slot && "path" in device))
      throw new VmError("CLONE_DISK_UNKNOWN", [slot]);
  refuseManyPorts(devices);
  return devices.flatMap((device) => {
    const to = disks[device.slot];
    if (to === undefined && isWritten(device))
      throw new VmError("CLONE_DISK_MISSING", [device.slot]);
    return to !== undefined && "path" in device ? [{ from: String(device.path), to }] : [];
  });
}

/** `disks` names one file a slot: the disks of a controller would be shared with the original. */
function refuseManyPorts(devices: readonly PciDevice[]): void {
  const shares = (device: PciDevice): boolean =>
    device.type === "ahci" &&
    device.ports.some((port) => port.type === "hd" && port.readOnly !== true);
  const controller = devices.find(shares);
  if (controller !== undefined)
    throw new VmError("NOT_BUILT_YET", [
      `a clone of the ahci controller in slot ${controller.slot} with its disks; ahci-hd can be cloned`,
    ]);
}

async function copyAll(
  copies: readonly Copy[],
  id: string,
  signal: AbortSignal,
  progress: (done: number, total: number) => void,
): Promise<void> {
  const total = copies.reduce((sum, { from }) => sum + sizeOf(from), 0);
  const made: string[] = [];
  let before = 0;
  try {
    for (const { from, to } of copies) {
      await copyFile(from, to, {
        unfinished: `${to}.${id}`,
        signal,
        progress: (bytes) => progress(before + bytes, total),
      });
      made.push(to);
      before += sizeOf(from);
      progress(before, total);
    }
  } catch (error) {
    for (const path of made) rmSync(path, { force: true });
    throw error;
  }
}

const sizeOf = (path: string): number => {
  try {
    return statSync(path).size;
  } catch {
    return 0; // the copy says why
  }
};
