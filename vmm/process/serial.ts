// From a definition's serial ports to what stands at the other ends of their cables.

import type { ConsoleLog } from "../../api-schema/console-log.js";
import type { SerialPort, VmDefinition } from "../../api-schema/definition.js";
import { reasonOf, VmError } from "../../api-schema/errors.js";
import { NoneBackend, type SerialBackend } from "../../devices/serial/backend.js";
import { ConsoleBackend } from "../../devices/serial/console.js";
import { FileBackend } from "../../devices/serial/file.js";
import { type Pty, PtyBackend } from "../../devices/serial/pty.js";
import { SocketBackend } from "../../devices/serial/socket.js";
import { StdioBackend } from "../../devices/serial/stdio.js";
import { TeeBackend } from "../../devices/serial/tee.js";
import { TtyBackend } from "../../devices/serial/tty.js";
import type { OpenFile } from "../host-files.js";

export interface SerialOptions {
  /** Made when a port has the backend `console`. */
  readonly openLog: () => ConsoleLog;
  readonly openFile: OpenFile;
  readonly openPty: () => Pty;
  /** Told where a pseudo-terminal is to be found, and by which link. */
  readonly onPty?: (port: string, path: string, link?: string) => void;
}

export interface SerialPorts {
  readonly com1: SerialBackend;
  readonly com2: SerialBackend;
  /** By the slot as the definition has it. */
  readonly pci: ReadonlyMap<string, SerialBackend>;
  readonly console: ConsoleBackend | undefined;
}

/** What the original prints of a pseudo-terminal on standard output, which scripts look for. */
export const ptyNotice = (port: string, path: string, link?: string): string =>
  `${port} connected to ${path}\n${link === undefined ? "" : `linkname ${link}\n`}`;

interface NamedPort {
  readonly name: string;
  readonly port: SerialPort;
  readonly slot?: string;
}

export const portsOf = ({
  serial,
  devices,
}: Pick<VmDefinition, "serial" | "devices">): NamedPort[] => [
  { name: "COM1", port: serial.com1 },
  { name: "COM2", port: serial.com2 },
  ...devices.flatMap((device) =>
    "serial" in device && typeof device.serial === "object"
      ? [{ name: `${device.type} ${device.slot}`, port: device.serial, slot: device.slot }]
      : [],
  ),
];

export async function openSerial(
  definition: Pick<VmDefinition, "serial" | "devices">,
  options: SerialOptions,
): Promise<SerialPorts> {
  const ports = portsOf(definition);
  for (const single of ["console", "stdio"] as const) {
    if (ports.filter(({ port }) => port.backend === single).length > 1) {
      throw new VmError("DEVICE_ONLY_ONE", [`serial port with the backend ${single}`]);
    }
  }
  const opened: Opened[] = [];
  try {
    for (const { name, port } of ports) opened.push(await open(name, port, options));
  } catch (error) {
    for (const { cable } of opened) cable.close();
    throw error;
  }
  const cables = opened.map(({ cable }) => cable);
  const [com1 = new NoneBackend(), com2 = new NoneBackend()] = cables;
  const pci = new Map<string, SerialBackend>();
  for (const [index, { slot }] of ports.entries()) {
    const cable = cables[index];
    if (slot !== undefined && cable !== undefined) pci.set(slot, cable);
  }
  return { com1, com2, pci, console: opened.map(({ end }) => end).find(isConsole) };
}

const isConsole = (end: SerialBackend): end is ConsoleBackend => end instanceof ConsoleBackend;

/** The backend that a port names, and the whole of its cable, which may have a log besides. */
interface Opened {
  readonly end: SerialBackend;
  readonly cable: SerialBackend;
}

async function open(name: string, port: SerialPort, options: SerialOptions): Promise<Opened> {
  const failed = (backend: string) => (error: unknown) => {
    if (error instanceof VmError) throw error;
    const details = [name, backend, reasonOf(error)];
    throw new VmError("SERIAL_BACKEND_FAILED", details, { cause: error });
  };
  const end = await make(name, port, options).catch(failed(port.backend));
  const { log } = port;
  if (log === undefined) return { end, cable: end };
  try {
    return { end, cable: new TeeBackend([end, new FileBackend(log, options.openFile)]) };
  } catch (error) {
    end.close();
    return failed("log")(error);
  }
}

async function make(
  name: string,
  port: SerialPort,
  options: SerialOptions,
): Promise<SerialBackend> {
  switch (port.backend) {
    case "console":
      return new ConsoleBackend(options.openLog());
    case "stdio":
      return new StdioBackend();
    case "pty": {
      const backend = new PtyBackend(options.openPty(), port.path);
      options.onPty?.(name, backend.path, port.path);
      return backend;
    }
    case "terminal":
      return new TtyBackend(pathOf(name, port), options.openFile);
    case "file":
      return new FileBackend(pathOf(name, port), options.openFile);
    case "socket":
      return SocketBackend.listen(pathOf(name, port));
    case "none":
      return new NoneBackend();
  }
}

function pathOf(name: string, { backend, path }: SerialPort): string {
  if (path === undefined) throw new VmError("SERIAL_PATH_MISSING", [name, backend]);
  return path;
}
