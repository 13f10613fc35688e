// What xhyvectl does with the discs in CD drives.
import { resolve } from "node:path";
import type { Drive } from "../../api-schema/index.js";
import { ClientError } from "./client.js";
import { type Command, type Context, type Options, one, show, type Values } from "./command.js";
import { type Cell, table } from "./table.js";

const drivesTable = (drives: readonly Drive[], colour: boolean): string =>
  table(
    ["DRIVE", "TRAY", "LOCKED", "DISC"],
    drives.map(({ device, tray, locked, path: disc }): Cell[] => [
      { text: device },
      { text: tray },
      { text: locked ? "yes" : "no" },
      { text: disc ?? "-" },
    ]),
    colour,
  );

const media: Command = {
  arguments: "VM",
  summary: "what lies in a VM's CD drives",
  operations: ["listMedia"],
  async run(context, positionals) {
    const answer = await context.client.call("listMedia", { vm: one(positionals) });
    show(context, answer, () => drivesTable(answer.drives, context.colour));
  },
};

const force: Options = {
  force: { type: "boolean", help: "also while the guest has locked the drive" },
};

async function changeMedium(
  context: Context,
  [vm, device]: readonly string[],
  values: Values,
  disc?: string,
): Promise<void> {
  if (vm === undefined || device === undefined) throw new ClientError("name a VM and a drive");
  const body = { ...(disc !== undefined && { path: resolve(disc) }), force: values.force === true };
  const answer = await context.client.call("changeMedium", { vm, device, body });
  show(context, answer, () => drivesTable(answer.drives, context.colour));
}

const eject: Command = {
  arguments: "VM DRIVE",
  summary: "take the disc out of a CD drive",
  operations: ["changeMedium"],
  options: force,
  run: (context, positionals, values) => changeMedium(context, positionals, values),
};

const insert: Command = {
  arguments: "VM DRIVE FILE",
  summary: "put a disc into a CD drive, in place of what lies there",
  operations: ["changeMedium"],
  options: force,
  run: (context, positionals, values) => {
    const disc = positionals[2];
    if (disc === undefined) throw new ClientError("name a VM, a drive and a disc's image");
    return changeMedium(context, positionals, values, disc);
  },
};

export const mediaCommands = { media, eject, insert };
