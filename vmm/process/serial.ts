// From a definition's `serial` to what stands at the other ends of the two cables.

import type { ConsoleLog } from "../../api-schema/console-log.js";
import type { Serial } from "../../api-schema/definition.js";
import { reasonOf, VmError } from "../../api-schema/errors.js";
import { NoneBackend, type SerialBackend } from "../../devices/serial/backend.js";
import { ConsoleBackend } from "../../devices/serial/console.js";
import { FileBackend } from "../../devices/serial/file.js";
import { type Pty, PtyBackend } from "../../devices/serial/pty.js";
import { SocketBackend } from "../../devices/serial/socket.js";
import { StdioBackend } from "../../devices/serial/stdio.js";

export interface SerialOptions {
  /** Made when a port has the backend `console`. */
  readonly openLog: () => ConsoleLog;
  readonly openPty: () => Pty;
  /** Told where a pseudo-terminal is to be found. */
  readonly onPty?: (port: string, path: string) => void;
}

export interface SerialPorts {
  readonly com1: SerialBackend;
  readonly com2: SerialBackend;
  readonly console: ConsoleBackend | undefined;
}

type Port = Serial["com1"];

export async function openSerial(serial: Serial, options: SerialOptions): Promise<SerialPorts> {
  const both = [serial.com1.backend, serial.com2.backend];
  for (const single of ["console", "stdio"] as const) {
    if (both.every((one) => one === single)) {
      throw new VmError("DEVICE_ONLY_ONE", [`serial port with the backend ${single}`]);
    }
  }
  const com1 = await open("COM1", serial.com1, options);
  const com2 = await open("COM2", serial.com2, options);
  const console = [com1, com2].find((one) => one instanceof ConsoleBackend);
  return { com1, com2, console };
}

async function open(name: string, port: Port, options: SerialOptions): Promise<SerialBackend> {
  try {
    return await make(name, port, options);
  } catch (error) {
    if (error instanceof VmError) throw error;
    throw new VmError("SERIAL_BACKEND_FAILED", [name, port.backend, reasonOf(error)], {
      cause: error,
    });
  }
}

async function make(name: string, port: Port, options: SerialOptions): Promise<SerialBackend> {
  switch (port.backend) {
    case "console":
      return new ConsoleBackend(options.openLog());
    case "stdio":
      return new StdioBackend();
    case "pty": {
      const backend = new PtyBackend(options.openPty(), port.path);
      options.onPty?.(name, backend.path);
      return backend;
    }
    case "file":
      return new FileBackend(pathOf(name, port));
    case "socket":
      return SocketBackend.listen(pathOf(name, port));
    case "none":
      return new NoneBackend();
  }
}

function pathOf(name: string, { backend, path }: Port): string {
  if (path === undefined) throw new VmError("SERIAL_PATH_MISSING", [name, backend]);
  return path;
}
