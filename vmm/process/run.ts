// The life of a VM process: lock, launch file, machine, socket, run, last status, end. What it
// needs of the host and of the native core is handed in: main.ts has the real ones.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { ConsoleLog } from "../../api-schema/console-log.js";
import { asVmError, reasonOf, VmError } from "../../api-schema/errors.js";
import { parse } from "../../api-schema/validate.js";
import { type Account, LaunchFile, runtimeFiles } from "../../api-schema/vm-process.js";
import type { VmStatus } from "../../api-schema/vm-rpc.js";
import type { Pty } from "../../devices/serial/pty.js";
import type { HostFacilities } from "../../native/host.js";
import type { Machine, MachineOptions } from "../../native/types.js";
import { type BuiltVm, buildVm } from "../build.js";
import { filesBeneath, type LockFile, namedFiles } from "../host-files.js";
import { HandedFiles } from "./handed-files.js";
import { type TryLock, takeLock } from "./lock.js";
import { heldOpen } from "./rights.js";
import { sandboxProfile } from "./sandbox.js";
import { needsOf } from "./sandbox-needs.js";
import { openSerial, ptyNotice } from "./serial.js";
import { checkSocketPath, RpcServer } from "./server.js";
import { handleSignals } from "./signals.js";
import { StatusWriter } from "./status-file.js";

export interface ProcessHost {
  readonly tryLock: TryLock;
  /** For disk images. */
  readonly lockFile: LockFile;
  readonly receiveDescriptors: HostFacilities["receiveDescriptors"];
  readonly openPty: () => Pty;
  readonly become: (user: Account) => void;
  /** Gives up what only the building of a machine needs. The profile is asked for on macOS alone. */
  readonly confine: (profile: () => string) => void;
  readonly createMachine: (options: MachineOptions) => Machine;
  readonly version: string;
  /** Of the launch file that is meant, where who starts the process says it. */
  readonly nonce?: string | undefined;
}

/** Resolves with the exit status of the process. */
export async function runProcess(folder: string, host: ProcessHost): Promise<number> {
  const socket = join(folder, runtimeFiles.socket);
  checkSocketPath(socket);
  takeLock(join(folder, runtimeFiles.lock), host.tryLock);
  const launch = readLaunch(join(folder, runtimeFiles.launch));
  refuseOther(folder, launch, host.nonce);
  const statusFile = new StatusWriter(join(folder, runtimeFiles.status), launch.nonce);
  let built: BuiltVm;
  try {
    built = await build(folder, launch, host);
  } catch (error) {
    statusFile.write(startFailed(error), asVmError(error));
    throw error;
  }
  const { vm } = built;
  vm.onStatus((status) => statusFile.write(status));
  statusFile.write(vm.status);
  const { nonce } = launch;
  const console = built.serial.console;
  const handed = new HandedFiles(join(folder, runtimeFiles.files), {
    receive: host.receiveDescriptors,
    lock: host.lockFile,
  });
  const server = new RpcServer(socket, {
    vm,
    console,
    networks: built.networks,
    files: handed,
    nonce,
    version: host.version,
  });
  await handed.listen();
  await server.listen();
  try {
    giveUpRights(folder, launch, host);
  } catch (error) {
    statusFile.write(startFailed(error), asVmError(error));
    server.close();
    handed.close();
    throw error;
  }
  const ignore = handleSignals(vm);
  // A start that fails ends the VM, which status.json and every client are told.
  if (launch.start) vm.start().catch((error: unknown) => tell(error));
  const last = await vm.ended;
  await sleep(launch.linger * 1000);
  server.close();
  handed.close();
  ignore();
  return last.exitStatus ?? 0;
}

export const tell = (error: unknown): void => {
  const { code, message } = asVmError(error);
  process.stderr.write(`${new Date().toISOString()} ${code} ${message}\n`);
};

function readLaunch(path: string): LaunchFile {
  try {
    return parse(LaunchFile, JSON.parse(readFileSync(path, "utf8")), "launch");
  } catch (error) {
    throw new VmError("LAUNCH_INVALID", [path, reasonOf(error)], { cause: error });
  }
}

/** A process that came so late that its folder is meanwhile another's has no business in it. */
function refuseOther(folder: string, { nonce }: LaunchFile, meant: string | undefined): void {
  if (meant !== undefined && meant !== nonce)
    throw new VmError("LAUNCH_INVALID", [folder, "it is meant for another process"]);
}

function build(folder: string, launch: LaunchFile, host: ProcessHost): Promise<BuiltVm> {
  const { definition, onReset, restore, user } = launch;
  const log = launch.console.file ?? join(folder, runtimeFiles.console);
  return buildVm(definition, {
    createMachine: host.createMachine,
    onReset,
    restore,
    files: launch.folders ? filesBeneath(launch.folders, host.lockFile) : namedFiles(host.lockFile),
    openSerial: ({ open }) =>
      openSerial(definition, {
        openLog: () => new ConsoleLog(user ? heldOpen(log) : log, launch.console.limit),
        openFile: open,
        openPty: host.openPty,
        onPty: (...pty) => process.stdout.write(ptyNotice(...pty)),
      }),
  });
}

/** Before the guest runs its first instruction. Throws VmError CONFINEMENT_FAILED: nothing runs then. */
function giveUpRights(folder: string, launch: LaunchFile, host: ProcessHost): void {
  if (launch.user !== undefined) host.become(launch.user);
  if (!launch.confine) return;
  try {
    host.confine(() => sandboxProfile(needsOf(folder, launch)));
  } catch (error) {
    // All of its words: they tell where in the profile it is wrong.
    const why = error instanceof Error ? error.message : String(error);
    throw new VmError("CONFINEMENT_FAILED", [why], { cause: error });
  }
}

const startFailed = (error: unknown): VmStatus => ({
  state: "failed",
  generation: 1,
  reason: "start failed",
  exitStatus: 1,
  detail: asVmError(error).message,
  resets: 0,
});
