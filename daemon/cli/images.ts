// What xhyvectl does with the disk images that the daemon keeps.
import { extname, resolve } from "node:path";
import { ImageFormat, type ImageView } from "../../api-schema/images.js";
import { allPages, ClientError } from "./client.js";
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
import { finished } from "./progress.js";
import { bytes, type Cell, parseBytes } from "./table.js";

const format: Options = {
  format: { type: "string", value: "FORMAT", help: "raw or qcow2", choices: ImageFormat.enum },
};

function formatOf(values: Values, fallback: ImageFormat): ImageFormat {
  const given = text(values, "format") ?? fallback;
  const known = ImageFormat.enum.find((each: string) => each === given);
  if (known === undefined) throw new ClientError(`--format takes ${ImageFormat.enum.join(" or ")}`);
  return known;
}

function sizeOf(given: string | undefined): number {
  const size = given === undefined ? undefined : parseBytes(given);
  if (size === undefined) throw new ClientError("name an image and a size such as 20G");
  return size;
}

async function all({ client }: Context): Promise<ImageView[]> {
  return allPages(
    (cursor) => client.call("listImages", cursor),
    ({ images }) => images,
  );
}

const HEADS = ["NAME", "FORMAT", "SIZE", "ON THE HOST", "USED BY"];
const row = ({ name, format: form, size, allocated, usedBy }: ImageView): Cell[] => [
  { text: name },
  { text: form },
  { text: bytes(size) },
  { text: bytes(allocated) },
  { text: usedBy.join(", ") },
];
const told = (context: Context, image: ImageView): void =>
  showTable(context, image, HEADS, { rows: [row(image)], none: "" });

const list: Command = {
  arguments: "",
  summary: "the disk images that the daemon keeps",
  operations: ["listImages"],
  async run(context, positionals) {
    none(positionals);
    const images = await all(context);
    showTable(context, images, HEADS, { rows: images.map(row), none: "no images" });
  },
};

const showImage: Command = {
  arguments: "NAME",
  summary: "one disk image",
  operations: ["getImage"],
  async run(context, positionals) {
    const image = one(positionals, "image");
    told(context, await context.client.call("getImage", { image }));
  },
};

const create: Command = {
  arguments: "NAME SIZE",
  summary: "make an empty disk image; zeros take no room",
  operations: ["createImage"],
  options: format,
  examples: ["xhyvectl image create web-root 20G --format qcow2"],
  async run(context, [name, size, ...more], values) {
    if (name === undefined || more.length > 0) throw new ClientError("name an image and a size");
    const body = { name, size: sizeOf(size), format: formatOf(values, "raw") };
    told(context, await context.client.call("createImage", { body }));
  },
};

const importFile: Command = {
  arguments: "NAME FILE",
  summary: "copy a file of the daemon's host to a disk image",
  operations: ["importImage", "getOperation"],
  options: {
    ...format,
    sha256: { type: "string", value: "DIGEST", help: "refuse the file at another SHA-256" },
  },
  notes: ["Without --format a file whose name ends in .qcow2 is one, and any other is raw."],
  async run(context, [name, file, ...more], values) {
    if (name === undefined || file === undefined || more.length > 0)
      throw new ClientError("name an image and a file");
    const sha256 = text(values, "sha256")?.toLowerCase();
    const guess = extname(file) === ".qcow2" ? "qcow2" : "raw";
    const wanted = { name, file: resolve(file), format: formatOf(values, guess) };
    const body = { ...wanted, ...(sha256 !== undefined && { sha256 }) };
    const begun = await context.client.call("importImage", { body });
    const done = await finished(context.client, begun);
    show(context, done, () => `${name} is imported\n`);
  },
};

const clone: Command = {
  arguments: "NAME NEW",
  summary: "make another disk image of one, by reference where the file system can",
  operations: ["cloneImage", "getOperation"],
  async run(context, [image, name, ...more]) {
    if (image === undefined || name === undefined || more.length > 0)
      throw new ClientError("name an image and its clone");
    const begun = await context.client.call("cloneImage", { image, body: { name } });
    const done = await finished(context.client, begun);
    show(context, done, () => `${name} is made of ${image}\n`);
  },
};

const grow: Command = {
  arguments: "NAME SIZE",
  summary: "make a disk image larger",
  operations: ["growImage"],
  async run(context, [image, size, ...more]) {
    if (image === undefined || more.length > 0) throw new ClientError("name an image and a size");
    told(context, await context.client.call("growImage", { image, body: { size: sizeOf(size) } }));
  },
};

const remove: Command = {
  arguments: "NAME",
  summary: "delete a disk image that no VM names",
  operations: ["deleteImage"],
  async run(context, positionals) {
    const image = one(positionals, "image");
    await context.client.call("deleteImage", { image });
    show(context, { deleted: image }, () => `${image} is deleted\n`);
  },
};

export const imageCommands = {
  "image list": list,
  "image show": showImage,
  "image create": create,
  "image import": importFile,
  "image clone": clone,
  "image grow": grow,
  "image delete": remove,
};
