// Network cards and host sockets of a VM, the same for whoever reads them.
import { isIP } from "node:net";
import { type Static, Type } from "@sinclair/typebox";
import { HostPath } from "./disk.js";
import { closed, literals } from "./shape.js";

/** Six bytes in hexadecimal; the first one even: a unicast address. */
export const MacAddress = Type.String({
  pattern: "^[0-9a-fA-F][02468aceACE](:[0-9a-fA-F]{2}){5}$",
  description: "a unicast MAC address: six bytes in hexadecimal with colons, the first one even",
});

/** What Linux calls an interface: IFNAMSIZ less the NUL. */
export const InterfaceName = Type.String({
  pattern: "^[^/\\s\\u0000%:]{1,15}$",
  description: "an interface's name: 1 to 15 characters without spaces, slashes, colons and %",
});

/** VMs of one user that name the same network are on one switch. */
export const NetworkName = Type.String({
  pattern: "^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$",
  description: "1 to 32 letters, digits, dots, underscores and hyphens; first a letter or digit",
});

const Port = Type.Integer({ minimum: 1, maximum: 65535 });

/** A port of the host that leads to one of the guest. */
export const PortForward = closed({
  protocol: literals(["tcp", "udp"]),
  /** 127.0.0.1 where absent. */
  address: Type.Optional(
    Type.String({
      pattern: "^[0-9a-fA-F.:]{2,45}$",
      description: "an IPv4 or IPv6 address of the host",
    }),
  ),
  host: Port,
  guest: Port,
});

/** What a schema cannot say of a list of forwards: the first that is wrong, and why. */
export function forwardFault(
  forwards: readonly Static<typeof PortForward>[],
): { readonly index: number; readonly why: string } | undefined {
  const seen = new Map<string, number>();
  for (const [index, { protocol, address = "127.0.0.1", host }] of forwards.entries()) {
    if (isIP(address) === 0)
      return { index, why: `the address ${address} is neither IPv4 nor IPv6` };
    const key = `${protocol} ${address} ${host}`;
    const before = seen.get(key);
    if (before !== undefined)
      return {
        index,
        why: `${protocol} port ${host} of ${address} is forwards[${before}]'s already`,
      };
    seen.set(key, index);
  }
  return undefined;
}

const one = <const K extends string>(kind: K) => ({ kind: Type.Literal(kind) });

/** What a network card is plugged into. No member has a default: members of a union cannot (ajv). */
export const NetworkBackend = Type.Union([
  /** Linux: made where there is none of this name; macOS: /dev/NAME. */
  closed({
    ...one("tap"),
    interface: Type.Optional(InterfaceName),
    /** A bridge of the host that it is put on (Linux). */
    bridge: Type.Optional(InterfaceName),
  }),
  /** macOS's own NAT and DHCP. */
  closed({
    ...one("vmnet"),
    /** `shared` where absent. */
    mode: Type.Optional(literals(["shared", "host", "bridged"])),
    /** Of `bridged`: an interface of the host. */
    interface: Type.Optional(InterfaceName),
  }),
  /** Frames after their lengths over a Unix socket that somebody listens on: passt, socket_vmnet. */
  closed({ ...one("stream"), socket: HostPath }),
  /** The host's network without privileges, by a passt of the VM's own. */
  closed({
    ...one("user"),
    forwards: Type.Optional(Type.Array(PortForward, { maxItems: 64 })),
  }),
  closed({ ...one("switch"), network: NetworkName }),
  /** Nothing is plugged in. */
  closed(one("none")),
]);

/** Spread into a card's own shape. */
export const networkCard = {
  /** One of the networks that the daemon keeps, in place of `backend`: looked up at each start. */
  network: Type.Optional(NetworkName),
  /** `vmnet` on macOS and `user` elsewhere where absent. */
  backend: Type.Optional(NetworkBackend),
  /** Where absent, of the VM's UUID and the slot: the same in every run, and nobody else's. */
  mac: Type.Optional(MacAddress),
  /** Told to the guest; 1500 is its own choice where absent. */
  mtu: Type.Optional(Type.Integer({ minimum: 68, maximum: 65535 })),
  /** False: the cable is out until the API plugs it in. */
  link: Type.Optional(Type.Boolean()),
} as const;

/** Spread into the socket device's own shape. */
export const hostSockets = {
  /** 0 to 2 are not guests', 2^32 - 1 is everybody's (VIRTIO 1.2, "Socket Device"). */
  cid: Type.Integer({ minimum: 3, maximum: 2 ** 32 - 2 }),
  /**
   * A Unix socket, made at start. Who connects to it writes `CONNECT port\n`, reads `OK port\n`, and
   * is then connected to the guest's port. The guest's connections to host port N go to the Unix
   * socket SOCKET_N.
   */
  socket: HostPath,
} as const;

/** A card of a VM, as the API shows it. */
export const NetworkView = closed({
  slot: Type.String(),
  mac: Type.String(),
  backend: Type.String(),
  /** Where frames go: a tap's name, a network's, a path. */
  detail: Type.String(),
  /** Plugged in, as far as the API is concerned. */
  link: Type.Boolean(),
  /** And the other end is there. */
  connected: Type.Boolean(),
  /** Why not. */
  fault: Type.Optional(Type.String()),
  /** The file of the capture that is under way. */
  capture: Type.Optional(Type.String()),
  counters: Type.Record(Type.String(), Type.Number()),
});

export const CaptureRequest = closed({
  /** Made; a file that exists is refused. */
  file: HostPath,
  /** Bytes; 1 GiB where absent. */
  limit: Type.Optional(Type.Integer({ minimum: 4096, maximum: 2 ** 40 })),
  /** Of each frame; 65553 (all of it) where absent. */
  snap: Type.Optional(Type.Integer({ minimum: 64, maximum: 262144 })),
});

const NetworkCard = Type.Object(networkCard);
const HostSockets = Type.Object(hostSockets);
export type NetworkCard = Static<typeof NetworkCard>;
export type HostSockets = Static<typeof HostSockets>;
export type NetworkBackend = Static<typeof NetworkBackend>;
export type PortForward = Static<typeof PortForward>;
export type NetworkView = Static<typeof NetworkView>;
export type CaptureRequest = Static<typeof CaptureRequest>;
