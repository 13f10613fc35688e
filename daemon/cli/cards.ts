// What xhyvectl does with network cards.
import { resolve } from "node:path";
import type { NetworkView } from "../../api-schema/index.js";
import { ClientError } from "./client.js";
import { type Command, type Options, one, show, showTable, text, type Values } from "./command.js";
import { bytes, type Cell, parseBytes, table } from "./table.js";

const cable = ({ link, connected }: NetworkView): Cell => {
  if (!link) return { text: "unplugged", colour: "yellow" };
  return connected ? { text: "up", colour: "green" } : { text: "down", colour: "red" };
};

const row = (card: NetworkView): Cell[] => [
  { text: card.slot },
  { text: card.mac },
  { text: `${card.backend} ${card.detail}`.trim() },
  cable(card),
  { text: bytes(card.counters.receivedBytes ?? 0) },
  { text: bytes(card.counters.sentBytes ?? 0) },
  { text: card.capture ?? card.fault ?? "" },
];
const HEAD = ["SLOT", "MAC", "NETWORK", "LINK", "RECEIVED", "SENT", "NOTE"];

const vmAndSlot = (positionals: readonly string[], more: number): readonly string[] => {
  if (positionals.length !== 2 + more) throw new ClientError("name a VM and a slot");
  return positionals;
};

export const listCards: Command = {
  arguments: "VM",
  summary: "a running VM's network cards",
  operations: ["listNetworkCards"],
  async run(context, positionals) {
    const { networks } = await context.client.call("listNetworkCards", { vm: one(positionals) });
    showTable(context, networks, HEAD, { rows: networks.map(row), none: "no network cards" });
  },
};

export const setLink: Command = {
  arguments: "VM SLOT up|down",
  summary: "plug a network cable in or out",
  operations: ["setLink"],
  async run(context, positionals) {
    const [vm = "", slot = "", state] = vmAndSlot(positionals, 1);
    if (state !== "up" && state !== "down") throw new ClientError("say up or down");
    const card = await context.client.call("setLink", { vm, slot, body: { up: state === "up" } });
    show(context, card, () => table(HEAD, [row(card)], context.colour));
  },
};

const captureOptions: Options = {
  stop: { type: "boolean", help: "end the capture" },
  limit: { type: "string", value: "SIZE", help: "of the file (1G)" },
  snap: { type: "string", value: "N", help: "bytes of each frame (all)" },
};

export const capture: Command = {
  arguments: "VM SLOT [FILE]",
  summary: "record a card's frames into a new pcapng file, until --stop",
  operations: ["startCapture", "stopCapture"],
  options: captureOptions,
  async run(context, positionals, values) {
    const { client } = context;
    const stop = values.stop === true;
    const [vm = "", slot = "", file = ""] = vmAndSlot(positionals, stop ? 0 : 1);
    const card = stop
      ? await client.call("stopCapture", { vm, slot })
      : await client.call("startCapture", {
          vm,
          slot,
          body: { file: resolve(file), ...bounds(values) },
        });
    show(context, card, () => table(HEAD, [row(card)], context.colour));
  },
};

function bounds(values: Values) {
  const [limit, snap] = [text(values, "limit"), text(values, "snap")];
  const size = limit === undefined ? undefined : parseBytes(limit);
  if (limit !== undefined && size === undefined)
    throw new ClientError("--limit takes a size such as 100M or 1G");
  return {
    ...(size === undefined ? {} : { limit: size }),
    ...(snap === undefined ? {} : { snap: Number(snap) }),
  };
}
