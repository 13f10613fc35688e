// Network cards of VMs that run: all of it is asked of the VM's process.
import { isAbsolute } from "node:path";
import { VmError } from "../../../api-schema/index.js";
import type { OperationId } from "../../../api-schema/operations.js";
import type { Supervisor } from "../../supervisor/supervisor.js";
import type { Handlers } from "../call.js";

type CardOperation = Extract<
  OperationId,
  "listNetworkCards" | "setLink" | "startCapture" | "stopCapture"
>;

export function cardHandlers(supervisor: Supervisor): Pick<Handlers, CardOperation> {
  const process = (vm: string, what: string) => supervisor.find(vm).connection(what);
  return {
    listNetworkCards: ({ path }) => process(path.vm, "show its networks").call("networks", {}),
    setLink: ({ path, body }) =>
      process(path.vm, "change a link").call("setLink", { slot: path.slot, up: body.up }),
    startCapture: ({ path, body }) => {
      if (!isAbsolute(body.file))
        throw new VmError("REQUEST_INVALID", ["body.file", `${body.file} is not an absolute path`]);
      return supervisor.find(path.vm).startCapture(path.slot, body);
    },
    stopCapture: ({ path }) =>
      process(path.vm, "end a capture").call("stopCapture", { slot: path.slot }),
  };
}
