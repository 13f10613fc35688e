// All handlers: what a row of the table of operations does.
import type { Handlers } from "../call.js";
import type { ServerParts } from "../server.js";
import { cardHandlers } from "./cards.js";
import { consoleHandlers } from "./console.js";
import { docsHandlers } from "./docs.js";
import { eventHandlers } from "./events.js";
import { healthHandlers } from "./health.js";
import { hostHandlers } from "./host.js";
import { imageHandlers } from "./images.js";
import { networkHandlers } from "./networks.js";
import { operationHandlers } from "./operations.js";
import { tokenHandlers } from "./tokens.js";
import { vmHandlers } from "./vms.js";

export const makeHandlers = (parts: ServerParts): Handlers => ({
  ...hostHandlers(parts.version),
  ...vmHandlers(parts.supervisor),
  ...consoleHandlers(parts),
  ...docsHandlers(parts.version),
  ...eventHandlers(parts),
  ...operationHandlers(parts),
  ...healthHandlers(parts),
  ...tokenHandlers(parts.tokens),
  ...imageHandlers(parts),
  ...networkHandlers(parts),
  ...cardHandlers(parts.supervisor),
});
