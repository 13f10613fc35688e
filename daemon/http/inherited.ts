// Sockets that the service manager made and hands over: systemd's protocol (sd_listen_fds(3)) and
// launchd's (launch_activate_socket(3)). The daemon then makes none of its own, and takes none away.
import type { FastifyInstance } from "fastify";
import { host } from "../../native/host.js";

/** sd_listen_fds(3): SD_LISTEN_FDS_START. */
const FIRST_FD = 3;
/** The name of the entry in the property list's Sockets. */
const LAUNCHD_NAME = "Listener";

type Environment = Record<string, string | undefined>;

/** Meant for this very process; the variables go, so that no child believes they are its own. */
export function systemdSockets(env: Environment, pid: number): number[] {
  const { LISTEN_PID, LISTEN_FDS } = env;
  if (LISTEN_PID !== String(pid)) return [];
  for (const name of ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"]) delete env[name];
  const count = Number(LISTEN_FDS);
  if (!Number.isInteger(count) || count < 1) return [];
  return Array.from({ length: count }, (_, index) => FIRST_FD + index);
}

/** Empty where nobody handed anything over. */
export const inheritedSockets = (): number[] => {
  const given = systemdSockets(process.env, process.pid);
  return given.length > 0 ? given : (host().launchActivateSocket(LAUNCHD_NAME) ?? []);
};

/** The descriptor is the server's from here on. */
export async function listenOnDescriptor(app: FastifyInstance, fd: number): Promise<void> {
  await app.ready();
  await new Promise<void>((resolve, reject) => {
    app.server.once("error", reject);
    app.server.listen({ fd }, () => {
      app.server.off("error", reject);
      resolve();
    });
  });
}
