// A guest's console for programs: waits for text, types, and may show everything to a person.
import type { WebSocket } from "ws";
import type { Client } from "../../daemon/cli/client.js";

interface Waiter {
  readonly text: string;
  readonly resolve: (before: string) => void;
  readonly reject: (error: Error) => void;
}

export class Expect {
  readonly #client: Client;
  readonly #vm: string;
  readonly #echo: NodeJS.WritableStream | undefined;
  #socket: WebSocket | undefined;
  #seen = "";
  #whole = "";
  #waiter: Waiter | undefined;
  #unsent: string[] = [];

  private constructor(client: Client, vm: string, echo: NodeJS.WritableStream | undefined) {
    this.#client = client;
    this.#vm = vm;
    this.#echo = echo;
  }

  /** Nothing is connected before follow(): a VM that is off has no live console. */
  static async attach(client: Client, vm: string, echo?: NodeJS.WritableStream): Promise<Expect> {
    return new Expect(client, vm, echo);
  }

  /** Everything the guest has printed since follow(). */
  get transcript(): string {
    return this.#whole;
  }

  follow(offset = 0): void {
    const socket = this.#client.stream(
      `/vms/${encodeURIComponent(this.#vm)}/console/stream?offset=${offset}`,
    );
    this.#socket = socket;
    socket.on("open", () => {
      for (const text of this.#unsent.splice(0)) socket.send(Buffer.from(text));
    });
    socket.on("message", (data: Buffer, binary: boolean) => {
      if (binary) this.#receive(data);
    });
    socket.on("error", (error) => this.#fail(error));
    socket.on("close", () => this.#fail(new Error("the console closed")));
  }

  send(text: string): void {
    const socket = this.#socket;
    if (socket !== undefined && socket.readyState === socket.OPEN) socket.send(Buffer.from(text));
    else this.#unsent.push(text);
  }

  /** Resolves with what was printed since the last match, up to and without `text`. */
  until(text: string, timeoutSeconds: number): Promise<string> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiter = undefined;
        const tail = JSON.stringify(this.#seen.slice(-400));
        reject(new Error(`no ${JSON.stringify(text)} within ${timeoutSeconds} s; last: ${tail}`));
      }, timeoutSeconds * 1000);
      this.#waiter = {
        text,
        resolve: (before) => {
          clearTimeout(timer);
          resolve(before);
        },
        reject: (error) => {
          clearTimeout(timer);
          reject(error);
        },
      };
      this.#match();
    });
  }

  close(): void {
    this.#socket?.close();
  }

  #receive(data: Buffer): void {
    const text = data.toString("latin1");
    this.#echo?.write(text);
    this.#seen += text;
    this.#whole += text;
    this.#match();
  }

  #match(): void {
    const waiter = this.#waiter;
    const at = waiter === undefined ? -1 : this.#seen.indexOf(waiter.text);
    if (waiter === undefined || at < 0) return;
    const before = this.#seen.slice(0, at);
    this.#seen = this.#seen.slice(at + waiter.text.length);
    this.#waiter = undefined;
    waiter.resolve(before);
  }

  #fail(error: Error): void {
    const waiter = this.#waiter;
    this.#waiter = undefined;
    waiter?.reject(error);
  }
}
