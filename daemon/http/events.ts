// Server-sent events (WHATWG HTML, "Server-sent events"): one sequence number, one line of JSON each.
import { Readable } from "node:stream";
import type { FastifyReply } from "fastify";
import type { ServerEvent } from "./call.js";

/** A comment now and then shows both sides that the other one is there. */
const KEEP_ALIVE_MS = 15_000;

const frame = ({ sequence, data }: ServerEvent<unknown>): string =>
  `id: ${sequence}\ndata: ${JSON.stringify(data)}\n\n`;

/** Ends when the client goes: the handler sees its signal, and its iterator is returned. */
export function sendEvents(
  reply: FastifyReply,
  events: AsyncIterable<ServerEvent<unknown>>,
): FastifyReply {
  const stream = Readable.from(frames(events), { objectMode: false, highWaterMark: 64 * 1024 });
  const beat = setInterval(() => {
    if (!reply.raw.writableNeedDrain) reply.raw.write(":\n\n");
  }, KEEP_ALIVE_MS);
  reply.raw.once("close", () => clearInterval(beat));
  return reply
    .header("content-type", "text/event-stream")
    .header("cache-control", "no-store")
    .send(stream);
}

async function* frames(events: AsyncIterable<ServerEvent<unknown>>): AsyncIterable<string> {
  yield ":\n\n"; // the headers go out with it
  for await (const event of events) yield frame(event);
}
