// A watcher of GET /v1/events that reads the stream by its own parser (WHATWG HTML, 9.2.6).
import { type ClientRequest, request } from "node:http";
import type { Event } from "../../api-schema/index.js";
import type { TestDaemon } from "./daemon.js";

export interface Watcher {
  readonly seen: Event[];
  /** Ids of the frames as they came. */
  readonly ids: number[];
  /** Resolves when the stream has ended, whoever ended it. */
  readonly ended: Promise<void>;
  end(): void;
}

export function watchEvents(
  daemon: Pick<TestDaemon, "socket">,
  query = "",
  lastEventId?: number,
): Watcher {
  const seen: Event[] = [];
  const ids: number[] = [];
  let sent: ClientRequest | undefined;
  const ended = new Promise<void>((resolve) => {
    sent = request(
      {
        socketPath: daemon.socket,
        path: `/v1/events${query}`,
        headers: lastEventId === undefined ? {} : { "last-event-id": lastEventId },
      },
      (response) => {
        let text = "";
        response.setEncoding("utf8");
        response.on("data", (chunk: string) => {
          const frames = (text + chunk).split("\n\n");
          text = frames.pop() ?? "";
          for (const frame of frames) take(frame, seen, ids);
        });
        response.on("error", () => resolve());
        response.on("close", () => resolve());
      },
    );
    sent.on("error", () => resolve());
    sent.end();
  });
  return { seen, ids, ended, end: () => sent?.destroy() };
}

function take(frame: string, seen: Event[], ids: number[]): void {
  const fields = frame.split("\n").map((line): [string, string] => {
    const colon = line.indexOf(":");
    return [line.slice(0, colon), line.slice(colon + 1).replace(/^ /, "")];
  });
  const data = fields.filter(([name]) => name === "data").map(([, value]) => value);
  if (data.length === 0) return; // a comment
  seen.push(JSON.parse(data.join("\n")) as Event);
  ids.push(Number(fields.find(([name]) => name === "id")?.[1]));
}
