// The disk images that the daemon keeps.

import { disksOf } from "../../../api-schema/disk-places.js";
import { type ImageView, type LongOperation, VmError } from "../../../api-schema/index.js";
import type { OperationId } from "../../../api-schema/operations.js";
import type { Images } from "../../images/images.js";
import { IMPORT_IMAGE, type ImportInput } from "../../operations/import-image.js";
import type { Operations } from "../../operations/operations.js";
import { isOff } from "../../supervisor/admission.js";
import type { Supervisor } from "../../supervisor/supervisor.js";
import { type Handlers, Reply } from "../call.js";

type ImageOperation = Extract<
  OperationId,
  | "listImages"
  | "createImage"
  | "getImage"
  | "deleteImage"
  | "importImage"
  | "cloneImage"
  | "growImage"
>;

interface Parts {
  readonly images: Images;
  readonly operations: Operations;
  readonly supervisor: Supervisor;
}

export function imageHandlers(parts: Parts): Pick<Handlers, ImageOperation> {
  const { images, operations, supervisor } = parts;
  const using = (image: string) =>
    supervisor.usersOf((device) => disksOf([device]).some(({ place }) => place.image === image));
  const users = (image: string): string[] => using(image).map(({ name }) => name);
  const view = (name: string): ImageView => images.view(name, users);

  /** Throws STORED_IMAGE_NOT_FOUND, and STORED_IMAGE_IN_USE where a VM that is on has it. */
  const requireIdle = (image: string) => {
    const found = images.find(image);
    const on = using(image).filter(({ state }) => !isOff(state));
    if (on[0] !== undefined)
      throw new VmError("STORED_IMAGE_IN_USE", [image, `VM ${on[0].name}, which is on`]);
    return found;
  };

  const begin = async (
    input: ImportInput,
    timeout: number,
    signal: AbortSignal,
  ): Promise<Reply<LongOperation>> => {
    images.requireFree(input.name);
    const { id } = operations.start(IMPORT_IMAGE, input);
    const operation = await operations.wait(id, timeout, signal);
    return new Reply(operation.state === "running" ? 202 : 200, operation);
  };

  return {
    listImages({ query: { limit, cursor } }) {
      const names = images.names().filter((name) => cursor === undefined || name > cursor);
      const page = names.slice(0, limit);
      const next = names.length > limit ? page.at(-1) : undefined;
      return { images: page.map(view), ...(next !== undefined && { next }) };
    },
    createImage({ body: { name, format, size } }) {
      images.create(name, format, size);
      return view(name);
    },
    getImage: ({ path }) => view(path.image),
    deleteImage({ path: { image } }) {
      images.find(image);
      const [user] = users(image);
      if (user !== undefined) throw new VmError("STORED_IMAGE_IN_USE", [image, `VM ${user}`]);
      images.remove(image);
      return undefined;
    },
    importImage: ({ body, query, signal }) => begin(body, query.timeout, signal),
    cloneImage({ path, body, query, signal }) {
      const { path: file, format } = requireIdle(path.image);
      return begin({ name: body.name, format, file }, query.timeout, signal);
    },
    growImage({ path: { image }, body }) {
      requireIdle(image);
      images.grow(image, body.size);
      return view(image);
    },
  };
}
