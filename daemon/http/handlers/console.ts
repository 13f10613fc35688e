// The console: history by byte offset over plain HTTP, and both ways over a WebSocket. The VM
// process writes the history itself, so it is there whether or not anything runs.
import { readConsoleLog } from "../../../api-schema/console-log.js";
import { VmError } from "../../../api-schema/index.js";
import type { Supervisor } from "../../supervisor/supervisor.js";
import type { VmFolders } from "../../supervisor/vm-folders.js";
import type { Handlers } from "../call.js";
import { ConsoleStream } from "../console-stream.js";

interface Parts {
  readonly supervisor: Supervisor;
  readonly folders: VmFolders;
}

export const consoleHandlers = ({
  supervisor,
  folders,
}: Parts): Pick<Handlers, "readConsole" | "streamConsole"> => ({
  readConsole: ({ path, query }) => {
    const base = folders.console(supervisor.find(path.vm).uuid);
    const read = readConsoleLog(base, fromEnd(base, query.offset), query.length);
    const { offset, first, end } = read;
    return { bytes: Buffer.from(read.bytes), headers: { offset, first, end } };
  },
  streamConsole: ({ path, query, log }) => {
    const { uuid, console: feed, hasConsole } = supervisor.find(path.vm);
    if (!hasConsole) throw new VmError("CONSOLE_NONE");
    return (socket) => {
      const base = folders.console(uuid);
      const wanted = query.offset ?? readConsoleLog(base, 0, 0).end;
      new ConsoleStream(socket, { feed, base, offset: fromEnd(base, wanted), log }).run();
    };
  },
});

const fromEnd = (base: string, offset: number): number =>
  offset >= 0 ? offset : Math.max(0, readConsoleLog(base, 0, 0).end + offset);
