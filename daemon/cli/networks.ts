// What xhyvectl does with the networks that the daemon keeps.
import { StoredBackend, type StoredNetworkView } from "../../api-schema/index.js";
import { allPages, type Client, ClientError } from "./client.js";
import {
  type Command,
  type Context,
  none,
  type Options,
  one,
  show,
  showTable,
  text,
  type Values,
} from "./command.js";
import { patchIn, patching, patchNote } from "./patch.js";
import type { Cell } from "./table.js";

const kinds = StoredBackend.anyOf.map(({ properties }) => properties.kind.const);

/** What a backend says beside its kind: a bridge, a mode, a socket. */
const detailOf = ({ backend }: StoredNetworkView): string => {
  const { kind: _, ...rest } = backend;
  return Object.values(rest).join(" ");
};

const HEADS = ["NAME", "KIND", "ON THE HOST", "USED BY"];
const row = (network: StoredNetworkView): Cell[] => [
  { text: network.name },
  { text: network.backend.kind },
  { text: detailOf(network) },
  { text: network.usedBy.join(", ") },
];
const told = (context: Context, network: StoredNetworkView): void =>
  showTable(context, network, HEADS, { rows: [row(network)], none: "" });

/** All of them, over as many pages as there are. */
async function all(client: Client, filter: { name?: string; labels?: string }) {
  return allPages(
    (cursor) => client.call("listNetworks", { ...filter, ...cursor }),
    ({ networks }) => networks,
  );
}

const list: Command = {
  arguments: "",
  summary: "the networks that the daemon keeps",
  operations: ["listNetworks"],
  options: {
    name: { type: "string", value: "PATTERN", help: "of these names; * stands for any characters" },
    labels: {
      type: "string",
      short: "l",
      value: "LABELS",
      help: "with these labels, with commas between: KEY=VALUE, or KEY",
    },
    quiet: { type: "boolean", short: "q", help: "names alone, a line each" },
  },
  async run(context, positionals, values) {
    none(positionals);
    const [name, labels] = [text(values, "name"), text(values, "labels")];
    const filter = { ...(name && { name }), ...(labels && { labels }) };
    const networks = await all(context.client, filter);
    if (values.quiet === true) {
      context.print(networks.map(({ name: each }) => `${each}\n`).join(""));
      return;
    }
    showTable(context, networks, HEADS, { rows: networks.map(row), none: "no networks" });
  },
};

const showNetwork: Command = {
  arguments: "NETWORK",
  summary: "one network",
  operations: ["getNetwork"],
  async run(context, positionals) {
    const network = one(positionals, "network");
    told(context, await context.client.call("getNetwork", { network }));
  },
};

const backendOptions: Options = {
  kind: { type: "string", value: "KIND", help: `${kinds.join(", ")} (switch)`, choices: kinds },
  bridge: { type: "string", value: "NAME", help: "of `bridge`: the host's" },
  mode: {
    type: "string",
    value: "MODE",
    help: "of `vmnet`: shared, host or bridged (shared)",
    choices: ["shared", "host", "bridged"],
  },
  interface: { type: "string", value: "NAME", help: "of `vmnet`, bridged: the host's" },
  socket: { type: "string", value: "FILE", help: "of `stream`: where a program listens" },
};

/** What does not belong together the daemon refuses, naming the field. */
function backendOf(values: Values): object {
  const fields = ["bridge", "mode", "interface", "socket"].flatMap((name) => {
    const value = text(values, name);
    return value === undefined ? [] : [[name, value]];
  });
  return { kind: text(values, "kind") ?? "switch", ...Object.fromEntries(fields) };
}

const create: Command = {
  arguments: "NAME",
  summary: "define a network",
  operations: ["createNetwork"],
  options: {
    ...backendOptions,
    mtu: { type: "string", value: "N", help: "of cards that say none of their own" },
    "dry-run": { type: "boolean", help: "say all that would be wrong, and define nothing" },
  },
  notes: [
    "A network card uses it by `network: NAME` in place of `backend`. switch: VMs of this host among themselves, without privileges. bridge: each card a tap on a bridge of the host. user: what the host reaches, by passt. vmnet: macOS's own. stream: a program that serves a Unix socket.",
  ],
  examples: [
    "xhyvectl network create lan",
    "xhyvectl network create office --kind bridge --bridge br0",
  ],
  async run(context, positionals, values) {
    const mtu = text(values, "mtu");
    if (mtu !== undefined && !/^[0-9]{1,5}$/.test(mtu))
      throw new ClientError("--mtu takes a number");
    const body = {
      name: one(positionals, "network"),
      backend: backendOf(values) as StoredBackend,
      labels: {},
      ...(mtu !== undefined && { mtu: Number(mtu) }),
    };
    const dryRun = values["dry-run"] === true;
    told(context, await context.client.call("createNetwork", { body, ...(dryRun && { dryRun }) }));
  },
};

const change: Command = {
  arguments: "NETWORK [FIELD=VALUE …]",
  summary: "change a network, for VMs that are started from then on",
  operations: ["changeNetwork"],
  options: patching,
  notes: [patchNote("backend.bridge")],
  examples: ["xhyvectl network change office backend.bridge=br1"],
  async run(context, positionals, values) {
    const { name: network, ...patch } = patchIn(positionals, values, "network");
    const changed = await context.client.call("changeNetwork", { network, ...patch });
    const later = changed.usedBy.length > 0 ? `; ${LATER} ${changed.usedBy.join(", ")}` : "";
    show(
      context,
      changed,
      () => `${changed.name} is at generation ${changed.generation}${later}\n`,
    );
  },
};

const LATER = "it takes effect at the next start of";

const remove: Command = {
  arguments: "NETWORK",
  summary: "delete a network that no VM names",
  operations: ["deleteNetwork"],
  async run(context, positionals) {
    const network = one(positionals, "network");
    await context.client.call("deleteNetwork", { network });
    show(context, { deleted: network }, () => `${network} is deleted\n`);
  },
};

export const networkCommands = {
  "network list": list,
  "network show": showNetwork,
  "network create": create,
  "network change": change,
  "network delete": remove,
};
