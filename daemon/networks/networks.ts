// The networks that the daemon keeps: rows of its registry with names, which network cards use. What a
// name stands for is looked up when a VM is started, so that a change reaches each VM at its next start.
import {
  type NetworkBackend,
  type PciDevice,
  parse,
  type StoredBackend,
  StoredNetwork,
  type StoredNetworkView,
  VmError,
} from "../../api-schema/index.js";
import type { EventLog } from "../events/event-log.js";
import type { Database } from "../registry/database.js";

/** Names of the VMs that use a network. */
export type Users = (network: string) => string[];

export interface NetworkRecord {
  readonly network: StoredNetwork;
  readonly generation: number;
  /** Milliseconds since 1970. */
  readonly created: number;
  readonly changed: number;
}

interface Row {
  readonly name: string;
  readonly network: string;
  readonly generation: number;
  readonly created: number;
  readonly changed: number;
}

const VALUES = "network, generation, created, changed";

export class Networks {
  readonly #db: Database;
  readonly #events: EventLog;

  constructor(db: Database, events: EventLog) {
    this.#db = db;
    this.#events = events;
  }

  /** In the order of their names. */
  list(): NetworkRecord[] {
    const rows = this.#db.statement("SELECT * FROM networks ORDER BY name").all() as Row[];
    return rows.map(recordOf);
  }

  lookUp(name: string): NetworkRecord | undefined {
    const sql = "SELECT * FROM networks WHERE name = ?";
    const row = this.#db.statement(sql).get(name) as Row | undefined;
    return row && recordOf(row);
  }

  /** Throws STORED_NETWORK_NOT_FOUND. */
  find(name: string): NetworkRecord {
    const found = this.lookUp(name);
    if (found === undefined) throw new VmError("STORED_NETWORK_NOT_FOUND", [name]);
    return found;
  }

  /** Throws STORED_NETWORK_EXISTS. */
  create(network: StoredNetwork): NetworkRecord {
    const { name } = network;
    if (this.lookUp(name) !== undefined) throw new VmError("STORED_NETWORK_EXISTS", [name]);
    const now = Date.now();
    const record: NetworkRecord = { network, generation: 1, created: now, changed: now };
    this.#db.commit(() => {
      this.#db
        .statement(`INSERT INTO networks (name, ${VALUES}) VALUES (?, ?, ?, ?, ?)`)
        .run(name, ...valuesOf(record));
      this.#tell("network.created", record);
    });
    return record;
  }

  /** In place of the one of its name. */
  change(network: StoredNetwork): NetworkRecord {
    const before = this.find(network.name);
    const record = { ...before, network, generation: before.generation + 1, changed: Date.now() };
    this.#db.commit(() => {
      this.#db
        .statement(`UPDATE networks SET (${VALUES}) = (?, ?, ?, ?) WHERE name = ?`)
        .run(...valuesOf(record), network.name);
      this.#tell("network.changed", record);
    });
    return record;
  }

  remove(name: string): void {
    const record = this.find(name);
    this.#db.commit(() => {
      this.#db.statement("DELETE FROM networks WHERE name = ?").run(name);
      this.#tell("network.deleted", record);
    });
  }

  /**
   * The device as a VM process takes it: plugged into what its network is now. Throws
   * STORED_NETWORK_NOT_FOUND.
   */
  plugged(device: PciDevice): PciDevice {
    if (device.type !== "virtio-net" || device.network === undefined) return device;
    const { network } = this.find(device.network);
    const mtu = device.mtu ?? network.mtu;
    return { ...device, backend: backendOf(network), ...(mtu !== undefined && { mtu }) };
  }

  #tell(
    kind: "network.created" | "network.changed" | "network.deleted",
    { network, generation }: NetworkRecord,
  ): void {
    this.#events.append(kind, { network: network.name, generation });
  }
}

const valuesOf = ({ network, generation, created, changed }: NetworkRecord): unknown[] => [
  JSON.stringify(network),
  ...[generation, created, changed],
];

/** An older daemon's row lacks what was added since: it gets the defaults. */
const recordOf = ({ network, generation, created, changed }: Row): NetworkRecord => ({
  network: parse(StoredNetwork, JSON.parse(network), "network"),
  ...{ generation, created, changed },
});

export const viewOf = (
  { network, generation, created, changed }: NetworkRecord,
  users: Users,
): StoredNetworkView => ({
  ...network,
  generation,
  usedBy: users(network.name),
  created: new Date(created).toISOString(),
  changed: new Date(changed).toISOString(),
});

/** As if the card had said so itself. */
function backendOf({ name, backend }: StoredNetwork): NetworkBackend {
  switch (backend.kind) {
    case "switch":
      return { kind: "switch", network: name };
    case "bridge":
      return { kind: "tap", bridge: backend.bridge };
    default:
      return backend satisfies Exclude<StoredBackend, { kind: "switch" | "bridge" }>;
  }
}

/** A network by this name is meant. */
export const usesNetwork = (device: PciDevice, name: string): boolean =>
  device.type === "virtio-net" && device.network === name;
