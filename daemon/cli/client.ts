// The daemon's API for the command line: HTTP over its Unix socket, or over TCP with a token.
import { readFileSync } from "node:fs";
import { WebSocket } from "ws";
import {
  ApiClient,
  collected,
  type HttpRequest,
  httpTransport,
  refusal,
  type Transport,
} from "../../api-schema/client.js";
import { API_PREFIX } from "../../api-schema/index.js";
import { defaultSocket } from "../settings.js";

export { ClientError } from "../../api-schema/client.js";

export interface Target {
  readonly socket?: string;
  /** http://HOST:PORT or https://HOST:PORT */
  readonly url?: string;
  readonly tokenFile?: string;
  /** The certificate to check the server's by, where it is no public one. */
  readonly caFile?: string;
}

export interface Answer {
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: Buffer;
}

interface Page {
  readonly next?: string | undefined;
}

/** What is in all pages of a list, each asked for with the cursor of the one before. */
export async function allPages<P extends Page, Item>(
  pageAt: (cursor: { cursor?: string }) => Promise<P>,
  itemsOf: (page: P) => readonly Item[],
): Promise<Item[]> {
  const items: Item[] = [];
  for (let cursor: string | undefined; ; ) {
    const page = await pageAt(cursor === undefined ? {} : { cursor });
    items.push(...itemsOf(page));
    cursor = page.next;
    if (cursor === undefined) return items;
  }
}

export class Client extends ApiClient {
  /** Where it talks to, for messages. */
  readonly where: string;
  readonly #socket: string | undefined;
  readonly #url: URL;
  readonly #token: string | undefined;
  readonly #ca: Buffer | undefined;
  readonly #send: Transport;

  constructor({ socket, url, tokenFile, caFile }: Target = {}) {
    const chosen = url === undefined ? (socket ?? defaultSocket()) : undefined;
    const token = tokenFile === undefined ? undefined : firstLine(tokenFile);
    const send = httpTransport({ socket: chosen, url, token, caFile });
    super(send);
    this.#send = send;
    this.#socket = chosen;
    this.#url = new URL(url ?? "http://localhost");
    this.#token = token;
    this.#ca = caFile === undefined ? undefined : readFileSync(caFile);
    this.where = chosen ?? this.#url.origin;
  }

  /** By path, for what has no type here. */
  async json<T>(method: string, path: string, body?: unknown): Promise<T> {
    const { body: bytes } = await this.raw(method, path, body);
    return (bytes.length === 0 ? undefined : JSON.parse(bytes.toString("utf8"))) as T;
  }

  async raw(method: string, path: string, body?: unknown): Promise<Answer> {
    const text = body === undefined ? undefined : JSON.stringify(body);
    const type = text === undefined ? {} : { "content-type": "application/json" };
    const wanted: HttpRequest = {
      method,
      path: API_PREFIX + path,
      headers: { ...type },
      body: text,
    };
    const answer = await this.#send(wanted);
    const bytes = await collected(answer.body);
    if (answer.status >= 400) throw refusal(bytes, answer.status);
    return { headers: answer.headers, body: bytes };
  }

  /** The WebSocket of a console. */
  stream(path: string): WebSocket {
    const scheme = this.#url.protocol === "https:" ? "wss" : "ws";
    const target =
      this.#socket === undefined
        ? `${scheme}://${this.#url.host}${API_PREFIX}${path}`
        : `ws+unix:${this.#socket}:${API_PREFIX}${path}`;
    return new WebSocket(target, {
      headers: this.#token === undefined ? {} : { authorization: `Bearer ${this.#token}` },
      ...(this.#ca === undefined ? {} : { ca: this.#ca }),
    });
  }
}

const firstLine = (path: string): string => readFileSync(path, "utf8").split("\n")[0]?.trim() ?? "";
