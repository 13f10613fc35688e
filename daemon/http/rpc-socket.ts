// JSON-RPC over a WebSocket: one request or batch in each text frame, answered in the order in which
// they came; events as notifications of the method `event`. A client that does not read is dropped.
import type { WebSocket } from "ws";
import type { ServerEvent } from "./call.js";
import { answerRpc, type RpcParts, type Subscriptions } from "./rpc.js";

/** Requests that wait for those before them. */
const MAX_WAITING = 64;
/** Bytes on their way to the client: the next event waits until they are fewer. */
const MAX_UNREAD = 256 * 1024;
const POLICY_VIOLATION = 1008;
const UNSUPPORTED_DATA = 1003;

export class RpcSocket implements Subscriptions {
  readonly #socket: WebSocket;
  readonly #parts: RpcParts;
  #waiting = 0;
  #queue: Promise<void> = Promise.resolve();
  #subscriptions = 0;

  constructor(socket: WebSocket, parts: RpcParts) {
    this.#socket = socket;
    this.#parts = { ...parts, subscriptions: this };
  }

  run(): void {
    this.#socket.on("error", () => this.#socket.terminate());
    this.#socket.on("message", (data: Buffer, binary: boolean) => {
      if (binary) this.#socket.close(UNSUPPORTED_DATA, "text frames only");
      else this.#receive(data.toString("utf8"));
    });
  }

  add(events: AsyncIterable<ServerEvent<unknown>>): number {
    this.#subscriptions++;
    void this.#forward(this.#subscriptions, events);
    return this.#subscriptions;
  }

  #receive(text: string): void {
    if (this.#waiting >= MAX_WAITING) {
      this.#socket.close(POLICY_VIOLATION, "too many requests at once");
      return;
    }
    this.#waiting++;
    this.#queue = this.#queue.then(async () => {
      const answer = await answerRpc(text, this.#parts);
      this.#waiting--;
      if (answer !== undefined) this.#send(answer);
    });
  }

  async #forward(subscription: number, events: AsyncIterable<ServerEvent<unknown>>): Promise<void> {
    // After the answer with the subscription's number, which is sent in this turn's microtasks.
    await new Promise(setImmediate);
    try {
      for await (const { sequence, data } of events) {
        if (!this.#open) return;
        await this.#room();
        const params = { subscription, sequence, data };
        this.#send({ jsonrpc: "2.0", method: "event", params });
      }
    } catch (error) {
      this.#parts.context.log.warn({ err: error }, "a subscription ended");
    }
  }

  get #open(): boolean {
    return this.#socket.readyState === this.#socket.OPEN;
  }

  async #room(): Promise<void> {
    while (this.#open && this.#socket.bufferedAmount > MAX_UNREAD)
      await new Promise((resolve) => setTimeout(resolve, 10));
  }

  #send(message: object): void {
    if (this.#open) this.#socket.send(JSON.stringify(message));
  }
}
