// Whether the host has what a card is to be plugged into, without plugging it in: what can be seen
// from outside. Rights, and who uses a tap at this moment, show when the VM is started.
import { accessSync, constants, existsSync, statSync } from "node:fs";
import { delimiter, join } from "node:path";
import { reasonOf } from "../../api-schema/errors.js";
import type { NetworkBackend } from "../../api-schema/network.js";
import { NOT_INSTALLED, PROGRAM } from "./passt.js";

type Of<K extends NetworkBackend["kind"]> = Extract<NetworkBackend, { kind: K }>;

/** What of a host the checks look at; Linux's sysfs has a folder for each interface. */
export interface NetworkHost {
  readonly platform: NodeJS.Platform;
  readonly interfaces: string;
  /** As in the environment. */
  readonly path: string;
}

function thisHost(): NetworkHost {
  const { PATH = "" } = process.env;
  return { platform: process.platform, interfaces: "/sys/class/net", path: PATH };
}

export const BRIDGED_NEEDS = "the mode bridged needs an interface of the host";

type Check<K extends NetworkBackend["kind"]> = (
  backend: Of<K>,
  host: NetworkHost,
) => string | undefined;

const checks: { readonly [K in NetworkBackend["kind"]]: Check<K> } = {
  tap({ interface: name, bridge }, { platform, interfaces }) {
    if (platform !== "linux") return undefined;
    const has = (...path: string[]): boolean => existsSync(join(interfaces, ...path));
    if (name !== undefined && has(name) && !has(name, "tun_flags"))
      return `the interface ${name} is there, and is no tap`;
    if (bridge === undefined || has(bridge, "bridge")) return undefined;
    return has(bridge)
      ? `the interface ${bridge} is no bridge`
      : `there is no bridge ${bridge}: make it with \`ip link add ${bridge} type bridge\``;
  },
  vmnet({ mode, interface: to }, { platform }) {
    if (platform !== "darwin") return "this host has no vmnet.framework: it is macOS's";
    return mode === "bridged" && to === undefined ? BRIDGED_NEEDS : undefined;
  },
  stream({ socket }) {
    try {
      return statSync(socket).isSocket() ? undefined : `${socket} is no socket`;
    } catch (error) {
      return `${socket}: ${reasonOf(error)}`;
    }
  },
  user: (_, { path }) =>
    path.split(delimiter).some((folder) => isProgram(join(folder, PROGRAM)))
      ? undefined
      : NOT_INSTALLED,
  // Made by whoever comes first.
  switch: () => undefined,
  none: () => undefined,
};

/** Why a card cannot be plugged into it; undefined: nothing is seen that speaks against it. */
export const networkFault = (
  backend: NetworkBackend,
  host: NetworkHost = thisHost(),
): string | undefined => checks[backend.kind](backend as never, host);

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}
