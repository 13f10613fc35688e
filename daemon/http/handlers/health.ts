// For those who watch the daemon itself: a load balancer, a supervisor of processes, Prometheus.
import { VmError } from "../../../api-schema/index.js";
import { metricsText } from "../../metrics/metrics.js";
import type { Handlers } from "../call.js";
import type { ServerParts } from "../server.js";

/** Whoever asks more often is told what was found last. */
const CHECK_MS = 1_000;

export function healthHandlers(
  parts: ServerParts,
): Pick<Handlers, "getMetrics" | "getHealth" | "getReadiness"> {
  let checked = 0;
  return {
    getMetrics: async () => ({ bytes: await metricsText(parts) }),
    getHealth: () => {
      if (Date.now() - checked > CHECK_MS) {
        parts.db.checkWritable();
        checked = Date.now();
      }
      return { bytes: "ok\n" };
    },
    getReadiness: () => {
      if (parts.supervisor.hostGoesDown) throw new VmError("HOST_SHUTTING_DOWN");
      return { bytes: "ready\n" };
    },
  };
}
