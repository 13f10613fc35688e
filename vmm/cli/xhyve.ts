// bin/xhyve: one VM in the foreground, without a daemon, by the original's command line.
import { closeSync, openSync, rmSync, writeSync } from "node:fs";
import { constants, tmpdir } from "node:os";
import { join } from "node:path";
import { ConsoleLog } from "../../api-schema/console-log.js";
import type { VmDefinition } from "../../api-schema/definition.js";
import { VmError } from "../../api-schema/errors.js";
import { host } from "../../native/host.js";
import { createMachine } from "../../native/index.js";
import { type BuiltVm, buildVm } from "../build.js";
import { namedFiles } from "../host-files.js";
import { defaultBackend, macsOf } from "../networks.js";
import { openSerial, ptyNotice } from "../process/serial.js";
import { handleSignals } from "../process/signals.js";
import { readState } from "../state-folder.js";
import { recordEvents } from "./events.js";
import { UsageError } from "./getopt.js";
import { type Command, parseCommand } from "./options.js";
import { EXAMPLES, USAGE, versionText } from "./usage.js";

/** Resolves with the exit status. */
export async function xhyve(words: readonly string[]): Promise<number> {
  try {
    const command = parseCommand(words);
    if (command.action !== "run") return inform(command.action);
    if (command.printMac) return await showMac(command);
    return await run(command);
  } catch (error) {
    return complain(error);
  }
}

function inform(action: Exclude<Command["action"], "run">): number {
  if (action === "help") process.stdout.write(USAGE + EXAMPLES);
  else process.stderr.write(action === "version" ? versionText() : USAGE);
  return 0;
}

function complain(error: unknown): number {
  if (error instanceof UsageError) {
    if (error.message !== "") process.stderr.write(`xhyve: ${error.message}\n`);
    if (error.showUsage) process.stderr.write(USAGE);
    return error.exitStatus;
  }
  const text = error instanceof VmError ? error.message : String(error);
  process.stderr.write(`xhyve: ${text}\n`);
  return 1;
}

/** The first card's address, as scripts that look for its DHCP lease want it. */
async function showMac({ definition, restore }: Command): Promise<number> {
  const vm = definition ?? readState(restore ?? "").definition;
  const card = vm.devices.find((device) => device.type === "virtio-net");
  if (card === undefined) throw new UsageError("-M needs a network card (-s)");
  process.stdout.write(`MAC: ${await macOfCard(vm, card)}\n`);
  return 0;
}

/** vmnet chooses its interfaces' addresses: it must be asked. */
async function macOfCard(
  vm: VmDefinition,
  card: Extract<VmDefinition["devices"][number], { type: "virtio-net" }>,
): Promise<string> {
  const kind = (card.backend ?? defaultBackend()).kind;
  if (card.mac !== undefined || kind !== "vmnet") return macsOf(vm).get(card.slot) ?? "";
  const built = await build(vm, false, undefined);
  const mac = built.networks.views().find(({ slot }) => slot === card.slot)?.mac;
  await built.vm.stop();
  return mac ?? "";
}

async function run(command: Command): Promise<number> {
  const { definition = readState(command.restore ?? "").definition, restore, reboot } = command;
  const { vm } = await build(definition, reboot, restore);
  let signal: NodeJS.Signals | undefined;
  try {
    if (command.events !== undefined) recordEvents(command.events, vm);
    if (command.pidFile !== undefined) writePidFile(command.pidFile);
  } catch (error) {
    await vm.stop();
    throw error;
  }
  handleSignals(vm, (by) => {
    signal = by;
  });
  await vm.start();
  const { exitStatus = 100, state, reason, detail } = await vm.ended;
  if (state === "failed") {
    process.stderr.write(`xhyve: ${reason}${detail === undefined ? "" : `: ${detail}`}\n`);
  }
  const stopped = signal !== undefined && reason === "stop requested";
  return stopped ? 128 + constants.signals[signal ?? "SIGTERM"] : exitStatus;
}

function build(
  definition: VmDefinition,
  reboot: boolean,
  restore: string | undefined,
): Promise<BuiltVm> {
  return buildVm(definition, {
    createMachine,
    onReset: reboot ? "restart" : "exit",
    restore,
    files: namedFiles((fd, shared) => host().lockFile(fd, shared)),
    openSerial: ({ open }) =>
      openSerial(definition, {
        openLog: () => new ConsoleLog(join(tmpdir(), `xhyve-${process.pid}-console`)),
        openFile: open,
        openPty: () => host().openPty(),
        onPty: (...pty) => process.stdout.write(ptyNotice(...pty)),
      }),
  });
}

/** Decimal, no newline; a file that exists is somebody else's. */
function writePidFile(path: string): void {
  try {
    const fd = openSync(path, "wx", 0o644);
    writeSync(fd, String(process.pid));
    closeSync(fd);
  } catch {
    throw new UsageError("Failed to set up pidfile\npidfile error -1");
  }
  process.on("exit", () => rmSync(path, { force: true }));
}
