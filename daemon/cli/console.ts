// `xhyvectl console`: the guest's serial console on this terminal, raw, until the escape key.
import type { WebSocket } from "ws";
import type { Client } from "./client.js";
import { ClientError } from "./client.js";

const ESCAPE = 0x1d; // Ctrl-]
const NORMAL = 1000;

export interface ConsoleOptions {
  readonly offset: number | undefined;
  readonly input: NodeJS.ReadStream;
  readonly output: NodeJS.WriteStream;
  readonly notes: NodeJS.WriteStream;
}

/** Resolves when the user leaves or the VM has ended. */
export async function attachConsole(
  client: Client,
  vm: string,
  options: ConsoleOptions,
): Promise<void> {
  const { input, output, notes, offset } = options;
  const query = offset === undefined ? "" : `?offset=${offset}`;
  const socket = client.stream(`/vms/${encodeURIComponent(vm)}/console/stream${query}`);
  const raw = input.isTTY === true;
  if (raw) notes.write(`connected to ${vm}; Ctrl-] leaves\r\n`);
  const ended = untilClosed(socket, client);
  socket.on("message", (data: Buffer, binary: boolean) => {
    if (binary) output.write(data);
    else note(data.toString("utf8"), notes);
  });
  socket.on("open", () => {
    if (raw) input.setRawMode(true);
    input.on("data", (data: Buffer) => forward(data, socket, raw));
    // A pipe that ends has nothing more to say; the output may go on.
    input.resume();
  });
  try {
    await ended;
  } finally {
    if (raw) input.setRawMode(false);
    input.pause();
  }
}

function forward(data: Buffer, socket: WebSocket, raw: boolean): void {
  const leaves = raw ? data.indexOf(ESCAPE) : -1;
  const typed = leaves < 0 ? data : data.subarray(0, leaves);
  if (typed.length > 0 && socket.readyState === socket.OPEN) socket.send(typed);
  if (leaves >= 0) socket.close(NORMAL);
}

interface Notice {
  readonly kind: string;
  readonly from?: number;
  readonly to?: number;
  readonly reason?: string;
}

function note(text: string, notes: NodeJS.WriteStream): void {
  const notice = JSON.parse(text) as Notice;
  if (notice.kind === "gap")
    notes.write(
      `\r\n[${(notice.to ?? 0) - (notice.from ?? 0)} bytes of output are no longer kept]\r\n`,
    );
  if (notice.kind === "dropped") notes.write(`\r\n[dropped: ${notice.reason}]\r\n`);
  if (notice.kind === "ended") notes.write("\r\n[the VM has ended]\r\n");
}

const untilClosed = (socket: WebSocket, client: Client): Promise<void> =>
  new Promise((resolve, reject) => {
    socket.on("close", (code, reason) =>
      code === NORMAL
        ? resolve()
        : reject(new ClientError(`the console closed: ${reason || code}`)),
    );
    socket.on("unexpected-response", (_request, response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("end", () => reject(new ClientError(detailOf(Buffer.concat(chunks)))));
    });
    socket.on("error", (error) =>
      reject(new ClientError(`no console at ${client.where}: ${error.message}`)),
    );
  });

function detailOf(body: Buffer): string {
  try {
    return String((JSON.parse(body.toString("utf8")) as { detail: unknown }).detail);
  } catch {
    return body.toString("utf8");
  }
}
