// What xhyvectl can do: each command a name of one or two words and its row.
import { apply } from "./apply.js";
import { capture, listCards, setLink } from "./cards.js";
import type { Commands } from "./command.js";
import { completion } from "./completion.js";
import { consoleCommand } from "./console-command.js";
import { imageCommands } from "./images.js";
import { inspectCommands } from "./inspect.js";
import { cancel, clone, guard, listOperations, shutdownCommand } from "./long-work.js";
import { manPage } from "./man-page.js";
import { mediaCommands } from "./media.js";
import { networkCommands } from "./networks.js";
import { tokenCommands } from "./tokens.js";
import { verb, vmCommands } from "./vms.js";
import { events, top } from "./watch.js";

const { create, list, show, get, change, wait, delete: remove } = vmCommands;
const { host, statistics, registers, metrics, health, openapi } = inspectCommands;

const withTable: Commands = {
  create,
  apply,
  list,
  show,
  get,
  change,
  start: verb("startVm", "start a VM"),
  shutdown: shutdownCommand(
    verb("shutdownVm", "press the power button; stop after the time limit"),
  ),
  stop: verb("stopVm", "stop a VM at once"),
  kill: verb("killVm", "end a VM's process, whatever it is doing"),
  reset: verb("resetVm", "reset a VM"),
  pause: verb("pauseVm", "pause a VM"),
  resume: verb("resumeVm", "let a paused VM go on"),
  wait,
  clone,
  delete: remove,
  console: consoleCommand,
  events,
  top,
  statistics,
  registers,
  ...mediaCommands,
  networks: listCards,
  link: setLink,
  capture,
  operations: listOperations,
  cancel,
  guard,
  ...imageCommands,
  ...networkCommands,
  ...tokenCommands,
  host,
  health,
  metrics,
  openapi,
};

export const commands: Commands = {
  ...withTable,
  completion: completion(() => commands),
  man: manPage(() => commands),
};
