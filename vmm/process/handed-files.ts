// Files that whoever governs the VM has opened for it: sent over a socket of their own, each message
// with the text by which a method names it. The process may have no rights to open them itself.
import { closeSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { VmError } from "../../api-schema/errors.js";
import { removeName } from "../../devices/own-name.js";
import { descriptorOf, type HostFacilities } from "../../native/host.js";
import { givenFile, type HostFiles, type LockFile } from "../host-files.js";
import { checkSocketPath, listenOn } from "./server.js";

/** Connections whose message nobody has asked for; the oldest give way. */
const MOST_WAITING = 8;
const LONGEST_NAME = 64;
/** The message was sent before the method was called: only the accepting may be yet to come. */
const ACCEPT_MS = 10_000;
const LOOK_MS = 5;

export interface HandedFilesTools {
  readonly receive: HostFacilities["receiveDescriptors"];
  readonly lock: LockFile;
}

export class HandedFiles {
  readonly #path: string;
  readonly #tools: HandedFilesTools;
  readonly #server: Server;
  #waiting: Socket[] = [];

  constructor(path: string, tools: HandedFilesTools) {
    checkSocketPath(path);
    this.#path = path;
    this.#tools = tools;
    // Nothing is read by Node, which would drop what comes with the bytes.
    this.#server = createServer({ pauseOnConnect: true }, (socket) => this.#accept(socket));
  }

  listen(): Promise<void> {
    return listenOn(this.#server, this.#path);
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#waiting) socket.destroy();
    removeName(this.#path);
  }

  /** Does `act` with the file that was sent by that name; what it leaves untaken is closed. */
  async with<T>(
    name: string | undefined,
    act: (given: HostFiles | undefined) => Promise<T> | T,
  ): Promise<T> {
    if (name === undefined) return act(undefined);
    const fd = await this.#take(name);
    const given = givenFile(fd, this.#tools.lock);
    try {
      return await act(given);
    } finally {
      if (!given.isTaken) closeSync(fd);
    }
  }

  #accept(socket: Socket): void {
    socket.on("error", () => socket.destroy());
    this.#waiting.push(socket);
    while (this.#waiting.length > MOST_WAITING) this.#waiting.shift()?.destroy();
  }

  async #take(name: string): Promise<number> {
    for (let waited = 0; waited < ACCEPT_MS; waited += LOOK_MS) {
      for (const socket of this.#waiting) {
        const fd = this.#receive(socket, name);
        if (fd !== undefined) return fd;
      }
      await sleep(LOOK_MS);
    }
    throw new VmError("REQUEST_INVALID", ["files", `no file was handed over as ${name}`]);
  }

  /** One message for each connection, which is closed when it has been read. */
  #receive(socket: Socket, name: string): number | undefined {
    const from = descriptorOf(socket);
    const message = from === undefined ? undefined : this.#tools.receive(from, LONGEST_NAME);
    if (message === undefined) return undefined; // nothing has come yet
    this.#waiting = this.#waiting.filter((one) => one !== socket);
    socket.destroy();
    const [fd, ...more] = message.fds;
    const isMeant = fd !== undefined && message.bytes.toString("latin1") === name;
    for (const unwanted of isMeant ? more : message.fds) closeSync(unwanted);
    return isMeant ? fd : undefined;
  }
}
