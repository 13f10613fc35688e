// What a schema cannot say about a definition. Whether images are any good is found out at start,
// by the VM process, which reads them.
import { isAbsolute } from "node:path";
import { Value } from "@sinclair/typebox/value";
import { type AnyAhciDevice, ahciPorts, isAhci } from "../../api-schema/ahci.js";
import {
  type DiskSource,
  type PciDevice,
  type VmDefinition,
  VmError,
  VmUuid,
} from "../../api-schema/index.js";

/** Throws REQUEST_INVALID naming the field. */
export function checkDefinition(definition: VmDefinition): void {
  if (Value.Check(VmUuid, definition.name))
    throw new VmError("REQUEST_INVALID", ["body.name", "must not look like a UUID"]);
  for (const [field, path] of hostPaths(definition)) requireAbsolute(field, path);
}

/** Throws REQUEST_INVALID naming the field of the body. */
export function requireAbsolute(field: string, path: string | undefined): void {
  if (path !== undefined && !isAbsolute(path))
    throw new VmError("REQUEST_INVALID", [
      `body.${field}`,
      `${path} is not an absolute path; the daemon has no current folder`,
    ]);
}

function diskPaths(field: string, disk: DiskSource): [string, string | undefined][] {
  const backing = (disk.backing ?? []).map(({ path }, index): [string, string] => [
    `${field}.backing.${index}.path`,
    path,
  ]);
  return [[`${field}.path`, disk.path], ...backing, [`${field}.scratch`, disk.scratch]];
}

/** Of `ahci` its ports; the other forms are a port themselves. */
function ahciPaths(field: string, device: AnyAhciDevice): [string, string | undefined][] {
  return ahciPorts(device).flatMap((port, index): [string, string | undefined][] => {
    const where = device.type === "ahci" ? `${field}.ports.${index}` : field;
    return port.type === "cd" ? [[`${where}.path`, port.path]] : diskPaths(where, port);
  });
}

function networkPaths(field: string, device: PciDevice): [string, string | undefined][] {
  if (device.type === "virtio-sock") return [[`${field}.socket`, device.socket]];
  if (device.type !== "virtio-net" || device.backend?.kind !== "stream") return [];
  return [[`${field}.backend.socket`, device.backend.socket]];
}

function hostPaths({ boot, serial, devices }: VmDefinition): [field: string, path: string][] {
  const all: [string, string | undefined][] = [
    ["boot.kernel", boot.kernel],
    ["serial.com1.path", serial.com1.path],
    ["serial.com2.path", serial.com2.path],
  ];
  for (const [index, device] of devices.entries()) {
    all.push(...networkPaths(`devices.${index}`, device));
    if (device.type === "virtio-blk") all.push(...diskPaths(`devices.${index}`, device));
    else if (isAhci(device)) all.push(...ahciPaths(`devices.${index}`, device));
    else if ("serial" in device) all.push([`devices.${index}.serial.path`, device.serial?.path]);
  }
  if (boot.kind === "linux") all.push(["boot.initrd", boot.initrd]);
  else
    all.push(
      ...(boot.modules ?? []).map((module, index): [string, string] => [
        `boot.modules.${index}.file`,
        module.file,
      ]),
    );
  return all.filter((entry): entry is [string, string] => entry[1] !== undefined);
}
