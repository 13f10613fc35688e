// The host shuts down: every guest is asked to, in the order opposite to that of starting, and
// what is still on at the end of the limit is stopped. What each VM should be stays as it is, so
// that those which start with the host come back. Nothing is started meanwhile.
import type { Supervisor } from "../supervisor/supervisor.js";
import type { OperationKind } from "./operations.js";

export const HOST_SHUTDOWN = "host.shutdown";

export interface HostShutdownInput {
  /** Seconds for all guests together. */
  readonly timeout: number;
}

export const hostShutdown = (supervisor: Supervisor): OperationKind<HostShutdownInput> => ({
  unit: "vms",
  async run({ timeout }, { signal, created, progress }) {
    supervisor.hostGoesDown = true;
    try {
      const limitMs = Math.max(0, created + timeout * 1000 - Date.now());
      const vms = await supervisor.shutDownAll(limitMs, signal, progress);
      signal.throwIfAborted();
      return { vms };
    } finally {
      supervisor.hostGoesDown = false;
      if (signal.aborted) supervisor.resume();
    }
  },
});
