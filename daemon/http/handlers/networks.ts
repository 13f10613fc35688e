// The networks that the daemon keeps.
import { isDeepStrictEqual } from "node:util";
import { hostPathsIn } from "../../../api-schema/host-paths.js";
import {
  type FieldProblem,
  InvalidRequest,
  parse,
  StoredNetwork,
  type StoredNetworkView,
  VmError,
} from "../../../api-schema/index.js";
import type { OperationId } from "../../../api-schema/operations.js";
import { mergePatch } from "../../merge-patch.js";
import { type NetworkRecord, type Networks, usesNetwork, viewOf } from "../../networks/networks.js";
import type { PathRules } from "../../paths.js";
import type { Supervisor } from "../../supervisor/supervisor.js";
import { type CallContext, type Handlers, isRemote, type Precondition, Reply } from "../call.js";
import { labelFilter, pageOf } from "../page.js";

type NetworkOperation = Extract<
  OperationId,
  | "listNetworks"
  | "createNetwork"
  | "getNetwork"
  | "replaceNetwork"
  | "changeNetwork"
  | "deleteNetwork"
>;

interface Parts {
  readonly networks: Networks;
  readonly supervisor: Supervisor;
  readonly paths: PathRules;
}

/** What would be, and who says so. */
interface Wish {
  readonly wanted: StoredNetwork;
  readonly before?: NetworkRecord | undefined;
  readonly call: Pick<CallContext, "principal"> & { readonly query: { dryRun?: boolean } };
}

export function networkHandlers(parts: Parts): Pick<Handlers, NetworkOperation> {
  const { networks, supervisor, paths } = parts;
  const users = (network: string): string[] =>
    supervisor.usersOf((device) => usesNetwork(device, network)).map(({ name }) => name);
  const view = (record: NetworkRecord): StoredNetworkView => viewOf(record, users);

  /** Throws InvalidRequest with all that is wrong. */
  const examine = ({ wanted, before, call }: Wish): void => {
    const dryRun = call.query.dryRun === true;
    const known = hostPathsIn(StoredNetwork, before?.network).map(({ path }) => path);
    const remote = isRemote(call.principal);
    const named = paths.problems(StoredNetwork, wanted, { remote, known });
    const taken = dryRun && before === undefined && networks.lookUp(wanted.name) !== undefined;
    const problems = [...problemsOf(wanted), ...named, ...(taken ? [takenName(wanted.name)] : [])];
    const [first] = problems;
    if (first === undefined) return;
    const failed = new VmError("DRY_RUN_FAILED", [problems.length, first.detail]);
    throw new InvalidRequest(problems, dryRun ? { error: failed } : named[0]);
  };

  const make = (wish: Wish): NetworkRecord => {
    examine(wish);
    const now = Date.now();
    return wish.call.query.dryRun === true
      ? { network: wish.wanted, generation: 1, created: now, changed: now }
      : networks.create(wish.wanted);
  };

  /** The same again changes nothing. */
  const alter = (wish: Wish & { readonly before: NetworkRecord }): StoredNetworkView => {
    const { wanted, before, call } = wish;
    requireName(wanted, before.network.name);
    examine(wish);
    if (isDeepStrictEqual(wanted, before.network)) return view(before);
    return view(
      call.query.dryRun === true ? { ...before, network: wanted } : networks.change(wanted),
    );
  };

  return {
    listNetworks({ query }) {
      const list = networks.list().map((record) => ({
        name: record.network.name,
        view: () => view(record),
      }));
      const labelled = labelFilter(query.labels);
      const { items, next } = pageOf(list, query, ({ labels }) => labelled(labels));
      return { networks: items, ...(next !== undefined && { next }) };
    },
    createNetwork(call) {
      const { body: wanted, query, attempt } = call;
      const made = attempt?.again === true ? networks.lookUp(wanted.name) : undefined;
      // By a daemon that did not live to say so.
      if (made !== undefined && isDeepStrictEqual(made.network, wanted)) return view(made);
      return new Reply(query.dryRun === true ? 200 : 201, view(make({ wanted, call })));
    },
    getNetwork: ({ path }) => view(networks.find(path.network)),
    replaceNetwork(call) {
      const { path, body: wanted, ifMatch, query } = call;
      const before = networks.lookUp(path.network);
      if (before !== undefined) {
        requireGeneration(before, ifMatch);
        return alter({ wanted, before, call });
      }
      if (ifMatch !== undefined) networks.find(path.network);
      requireName(wanted, path.network);
      return new Reply(query.dryRun === true ? 200 : 201, view(make({ wanted, call })));
    },
    changeNetwork(call) {
      const before = networks.find(call.path.network);
      requireGeneration(before, call.ifMatch);
      const wanted = parse(StoredNetwork, mergePatch(before.network, call.body), "body");
      return alter({ wanted, before, call });
    },
    deleteNetwork({ path: { network }, ifMatch }) {
      requireGeneration(networks.find(network), ifMatch);
      const using = users(network);
      if (using.length > 0) throw new VmError("STORED_NETWORK_IN_USE", [network, using.join(", ")]);
      networks.remove(network);
      return undefined;
    },
  };
}

/** What the schema cannot say. */
function problemsOf({ backend }: StoredNetwork): FieldProblem[] {
  if (backend.kind !== "vmnet") return [];
  const bridged = backend.mode === "bridged";
  if (bridged === (backend.interface !== undefined)) return [];
  const detail = bridged
    ? "is missing: the mode bridged needs an interface of the host"
    : "is for the mode bridged alone";
  return [{ in: "body", pointer: "#/backend/interface", detail }];
}

const takenName = (name: string): FieldProblem => {
  const { code, message } = new VmError("STORED_NETWORK_EXISTS", [name]);
  return { in: "body", pointer: "#/name", detail: message, code };
};

/** Definitions know it by its name. */
function requireName({ name }: StoredNetwork, path: string): void {
  if (name === path) return;
  const detail = `must be ${path}: a network's name cannot be changed`;
  throw new InvalidRequest([{ in: "body", pointer: "#/name", detail }]);
}

function requireGeneration({ generation }: NetworkRecord, ifMatch: Precondition): void {
  if (ifMatch !== undefined && ifMatch !== generation)
    throw new VmError("STORED_NETWORK_CHANGED", [generation, ifMatch]);
}
