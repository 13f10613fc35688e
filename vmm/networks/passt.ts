// passt: the host's network for one guest, without privileges. It goes to the background when its
// ports are bound, and ends when its end of the connection is closed, whatever ended the VM.
import { spawn } from "node:child_process";
import { closeSync } from "node:fs";
import { forwardFault, type PortForward } from "../../api-schema/network.js";
import { ReconnectingNetwork } from "../../devices/net/reconnecting.js";
import type { HostNet, NetPort } from "../../native/types.js";

export const PROGRAM = "passt";
const START_MS = 15_000;
export const NOT_INSTALLED =
  "passt is not installed: install the package passt, or plug the card into something else";
/** The descriptor of the connection in the child. */
const CHILD_FD = 3;

/** `-t ADDRESS/HOST:GUEST`, each protocol with its own option. */
function forwardOptions(forwards: readonly PortForward[]): string[] {
  const options = { tcp: "-t", udp: "-u" } as const;
  const found = forwards.flatMap(({ protocol, address = "127.0.0.1", host, guest }) => [
    options[protocol],
    `${address}/${host}:${guest}`,
  ]);
  const none = (["tcp", "udp"] as const)
    .filter((protocol) => !forwards.some((one) => one.protocol === protocol))
    .flatMap((protocol) => [options[protocol], "none"]);
  return [...found, ...none];
}

/** Resolves when it serves; the descriptor is closed here. */
function run(fd: number, forwards: readonly PortForward[]): Promise<void> {
  // Guests are not let to the host's loopback by way of the gateway's address.
  const args = ["--quiet", "--no-map-gw", "--fd", String(CHILD_FD), ...forwardOptions(forwards)];
  return new Promise((resolve, reject) => {
    const child = spawn(PROGRAM, args, {
      stdio: ["ignore", "ignore", "pipe", fd],
      timeout: START_MS,
    });
    closeSync(fd);
    let said = "";
    child.stderr?.on("data", (data) => {
      said = (said + String(data)).slice(-2000);
    });
    child.on("error", (error: NodeJS.ErrnoException) =>
      reject(error.code === "ENOENT" ? new Error(NOT_INSTALLED) : error),
    );
    // What went to the background may hold the pipe for as long as it lives.
    child.on("exit", (status) => {
      if (status !== 0) return;
      child.stderr?.destroy();
      resolve();
    });
    // With all that was said.
    child.on("close", (status, signal) =>
      reject(new Error(said.trim() || `passt ended with ${status ?? signal}`)),
    );
  });
}

export interface UserOptions {
  readonly net: HostNet;
  readonly forwards: readonly PortForward[];
  log(text: string): void;
}

/** Throws what keeps passt from serving: it is not there, a port is taken … */
export async function openUser({ net, forwards, log }: UserOptions): Promise<ReconnectingNetwork> {
  const wrong = forwardFault(forwards);
  if (wrong !== undefined) throw new Error(`forwards[${wrong.index}]: ${wrong.why}`);
  const { port, fd } = net.pair();
  try {
    await run(fd, forwards);
  } catch (error) {
    port.close();
    throw error;
  }
  const connect = (): NetPort => {
    const pair = net.pair();
    // A failure closes the connection, which is then tried again.
    run(pair.fd, forwards).catch((error: unknown) => log(String(error)));
    return pair.port;
  };
  return new ReconnectingNetwork({ kind: "user", detail: PROGRAM, port, connect, log });
}
