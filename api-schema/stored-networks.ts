// Networks that the daemon keeps: what VMs of this host are plugged into, under names that network
// cards use (`network: NAME`), so that a definition says which network, not how this host has it.
import { type Static, Type } from "@sinclair/typebox";
import { HostPath } from "./disk.js";
import { InterfaceName, NetworkName } from "./network.js";
import { closed, count, Labels, listing, literals } from "./shape.js";

const kind = <const K extends string>(name: K) => ({ kind: Type.Literal(name) });

/** How a network is made on this host. No member has a default: members of a union cannot (ajv). */
export const StoredBackend = Type.Union([
  /** VMs of the daemon's user on this network see each other, and nothing else. No privileges. */
  closed(kind("switch")),
  /** Each card is a tap on this bridge of the host (Linux). */
  closed({ ...kind("bridge"), bridge: InterfaceName }),
  /** Each VM reaches what the host reaches, by a passt of its own. No privileges. */
  closed(kind("user")),
  /** macOS's own NAT and DHCP. */
  closed({
    ...kind("vmnet"),
    /** `shared` where absent. */
    mode: Type.Optional(literals(["shared", "host", "bridged"])),
    /** Of `bridged`, which needs it: an interface of the host. */
    interface: Type.Optional(InterfaceName),
  }),
  /** A program that gives every VM that connects a port: socket_vmnet, say. */
  closed({ ...kind("stream"), socket: HostPath }),
]);

const fields = {
  name: NetworkName,
  backend: StoredBackend,
  /** Of cards that say none of their own. */
  mtu: Type.Optional(Type.Integer({ minimum: 68, maximum: 65535 })),
  labels: Labels,
};

/** As clients give it. */
export const StoredNetwork = closed(fields, { $id: "CreateNetwork" });

/** A merge patch (RFC 7396); null takes a field back to its default. */
export const ChangeNetwork = Type.Record(Type.String({ maxLength: 64 }), Type.Unknown(), {
  $id: "ChangeNetwork",
});

export const StoredNetworkView = closed(
  {
    ...fields,
    /** Grows by one with every change. */
    generation: count,
    /** Names of the VMs whose definitions use it. */
    usedBy: Type.Array(Type.String()),
    /** RFC 3339, UTC. */
    created: Type.String(),
    changed: Type.String(),
  },
  { $id: "Network" },
);

export const StoredNetworkList = closed(
  {
    networks: Type.Array(StoredNetworkView),
    /** Where there are more: the `cursor` that goes on. */
    next: Type.Optional(Type.String()),
  },
  { $id: "NetworkList" },
);

export const StoredNetworkQuery = closed(listing);
export const StoredNetworkPath = closed({ network: NetworkName });

export type StoredBackend = Static<typeof StoredBackend>;
export type StoredNetwork = Static<typeof StoredNetwork>;
export type StoredNetworkView = Static<typeof StoredNetworkView>;
export type StoredNetworkQuery = Static<typeof StoredNetworkQuery>;
