// The daemon's API for the command line: HTTP over its Unix socket, or over TCP with a token.
import { readFileSync } from "node:fs";
import { request } from "node:http";
import { WebSocket } from "ws";
import { API_PREFIX, type Problem } from "../../api-schema/index.js";
import { defaultSocket } from "../settings.js";

/** A refusal of the daemon, or that it could not be reached. */
export class ClientError extends Error {
  override readonly name = "ClientError";
  readonly problem: Problem | undefined;

  constructor(message: string, problem?: Problem) {
    super(message);
    this.problem = problem;
  }
}

export interface Target {
  readonly socket?: string;
  /** http://HOST:PORT */
  readonly url?: string;
  readonly tokenFile?: string;
}

export interface Answer {
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: Buffer;
}

export class Client {
  readonly #socket: string | undefined;
  readonly #url: URL;
  readonly #headers: Readonly<Record<string, string>>;

  constructor({ socket, url, tokenFile }: Target = {}) {
    this.#socket = url === undefined ? (socket ?? defaultSocket()) : undefined;
    this.#url = new URL(url ?? "http://localhost");
    const token =
      tokenFile === undefined ? undefined : readFileSync(tokenFile, "utf8").split("\n")[0]?.trim();
    this.#headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
  }

  /** Where it talks to, for messages. */
  get where(): string {
    return this.#socket ?? this.#url.origin;
  }

  async json<T>(method: string, path: string, body?: unknown): Promise<T> {
    const { body: bytes } = await this.raw(method, path, body);
    return (bytes.length === 0 ? undefined : JSON.parse(bytes.toString("utf8"))) as T;
  }

  raw(method: string, path: string, body?: unknown): Promise<Answer> {
    const text = body === undefined ? undefined : JSON.stringify(body);
    return new Promise((resolve, reject) => {
      const sent = request(
        {
          method,
          path: API_PREFIX + path,
          ...(this.#socket === undefined
            ? { host: this.#url.hostname, port: this.#url.port }
            : { socketPath: this.#socket }),
          headers: {
            ...this.#headers,
            ...(text === undefined
              ? {}
              : { "content-type": "application/json", "content-length": Buffer.byteLength(text) }),
          },
        },
        (response) => {
          const chunks: Buffer[] = [];
          response.on("data", (chunk: Buffer) => chunks.push(chunk));
          response.on("error", reject);
          response.on("end", () => {
            const bytes = Buffer.concat(chunks);
            if ((response.statusCode ?? 500) < 400)
              resolve({ headers: response.headers, body: bytes });
            else reject(refusal(bytes, response.statusCode ?? 500));
          });
        },
      );
      sent.on("error", (error: NodeJS.ErrnoException) => reject(this.#unreachable(error)));
      sent.end(text);
    });
  }

  /** The WebSocket of a console. */
  stream(path: string): WebSocket {
    const target =
      this.#socket === undefined
        ? `ws://${this.#url.host}${API_PREFIX}${path}`
        : `ws+unix:${this.#socket}:${API_PREFIX}${path}`;
    return new WebSocket(target, { headers: this.#headers });
  }

  #unreachable(error: NodeJS.ErrnoException): ClientError {
    const hint =
      error.code === "EACCES"
        ? "it belongs to another user"
        : "is the daemon running? start it with 'xhyved', or name its socket with --socket";
    return new ClientError(
      `no daemon answers at ${this.where} (${error.code ?? error.message}): ${hint}`,
    );
  }
}

function refusal(bytes: Buffer, status: number): ClientError {
  try {
    const problem = JSON.parse(bytes.toString("utf8")) as Problem;
    return new ClientError(problem.detail, problem);
  } catch {
    return new ClientError(
      `the daemon answered ${status}: ${bytes.toString("utf8").slice(0, 200)}`,
    );
  }
}
