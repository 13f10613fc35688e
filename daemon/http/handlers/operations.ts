// Long work: begun here, and looked at.
import type { LongOperation } from "../../../api-schema/index.js";
import { VmError } from "../../../api-schema/index.js";
import { CLONE, checkClone } from "../../operations/clone.js";
import { HOST_SHUTDOWN } from "../../operations/host-shutdown.js";
import type { Operations } from "../../operations/operations.js";
import type { Supervisor } from "../../supervisor/supervisor.js";
import { type Handlers, isRemote, Reply } from "../call.js";

type OperationHandlers =
  | "listOperations"
  | "getOperation"
  | "cancelOperation"
  | "shutDownHost"
  | "cloneVm";

interface Parts {
  readonly supervisor: Supervisor;
  readonly operations: Operations;
}

export function operationHandlers({
  supervisor,
  operations,
}: Parts): Pick<Handlers, OperationHandlers> {
  /** 202 while it is under way, 200 once it has ended. */
  const begun = async (
    { id }: LongOperation,
    timeout: number,
    signal: AbortSignal,
  ): Promise<Reply<LongOperation>> => {
    const operation = await operations.wait(id, timeout, signal);
    return new Reply(operation.state === "running" ? 202 : 200, operation);
  };
  return {
    listOperations: () => ({ operations: operations.list() }),
    getOperation: ({ path, query, signal }) =>
      operations.wait(path.operation, query.timeout, signal),
    cancelOperation: ({ path }) => operations.cancel(path.operation),
    shutDownHost: ({ body, query, signal }) => {
      if (operations.isUnderWay(HOST_SHUTDOWN)) throw new VmError("HOST_SHUTTING_DOWN");
      return begun(operations.start(HOST_SHUTDOWN, body), query.timeout, signal);
    },
    cloneVm: ({ path, body, query, principal, signal }) => {
      const driver = supervisor.find(path.vm);
      const input = checkClone(supervisor, driver, body, isRemote(principal));
      return begun(operations.start(CLONE, input, driver.uuid), query.timeout, signal);
    },
  };
}
