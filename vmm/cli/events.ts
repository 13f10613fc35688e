// --json-events: one line of JSON for every change of the VM's state, on disk as it happens.
import { openSync, writeSync } from "node:fs";
import { reasonOf } from "../../api-schema/errors.js";
import type { VmStatus } from "../../api-schema/vm-rpc.js";
import type { VirtualMachine } from "../machine.js";
import { UsageError } from "./getopt.js";

export function recordEvents(path: string, vm: VirtualMachine): void {
  let fd: number;
  try {
    fd = openSync(path, "a", 0o644);
  } catch (error) {
    throw new UsageError(`${path} cannot be written: ${reasonOf(error)}`);
  }
  const record = (status: VmStatus): void => {
    const nanoseconds = process.hrtime.bigint().toString();
    const line = { event: "state", monotonicNs: nanoseconds, pid: process.pid, ...status };
    try {
      writeSync(fd, `${JSON.stringify(line)}\n`);
    } catch (error) {
      process.stderr.write(`${path}: ${reasonOf(error)}\n`);
    }
  };
  record(vm.status);
  vm.onStatus(record);
}
