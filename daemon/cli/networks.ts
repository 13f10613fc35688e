// What xhyvectl does with network cards.
import { resolve } from "node:path";
import type { NetworkView } from "../../api-schema/index.js";
import { ClientError } from "./client.js";
import type { Command } from "./commands.js";
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

export const listNetworks: Command = {
  arguments: "VM",
  summary: "a running VM's network cards",
  async run({ client, json, colour, print }, positionals) {
    const [vm = ""] = positionals;
    if (positionals.length !== 1) throw new ClientError("name one VM");
    const { networks } = await client.call("listNetworks", { vm });
    if (json) print(`${JSON.stringify(networks, null, 2)}\n`);
    else print(table(HEAD, networks.map(row), colour));
  },
};

export const setLink: Command = {
  arguments: "VM SLOT up|down",
  summary: "plug a network cable in or out",
  async run({ client, json, colour, print }, positionals) {
    const [vm = "", slot = "", state] = vmAndSlot(positionals, 1);
    if (state !== "up" && state !== "down") throw new ClientError("say up or down");
    const card = await client.call("setLink", { vm, slot, body: { up: state === "up" } });
    print(json ? `${JSON.stringify(card, null, 2)}\n` : table(HEAD, [row(card)], colour));
  },
};

export const capture: Command = {
  arguments: "VM SLOT [FILE]",
  summary: "record a card's frames into a new pcapng file, until --stop",
  options: { stop: { type: "boolean" }, limit: { type: "string" }, snap: { type: "string" } },
  details: [
    "--stop               end the capture",
    "--limit SIZE         of the file (1G)",
    "--snap N             bytes of each frame (all)",
  ],
  async run({ client, json, colour, print }, positionals, values) {
    const stop = values.stop === true;
    const [vm = "", slot = "", file = ""] = vmAndSlot(positionals, stop ? 0 : 1);
    const card = stop
      ? await client.call("stopCapture", { vm, slot })
      : await client.call("startCapture", {
          vm,
          slot,
          body: { file: resolve(file), ...bounds(values) },
        });
    print(json ? `${JSON.stringify(card, null, 2)}\n` : table(HEAD, [row(card)], colour));
  },
};

function bounds(values: Readonly<Record<string, string | boolean | undefined>>) {
  const { limit, snap } = values;
  const size = typeof limit === "string" ? parseBytes(limit) : undefined;
  if (limit !== undefined && size === undefined)
    throw new ClientError("--limit takes a size such as 100M or 1G");
  return {
    ...(size === undefined ? {} : { limit: size }),
    ...(typeof snap === "string" ? { snap: Number(snap) } : {}),
  };
}
