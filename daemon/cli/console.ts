// `xhyvectl console`: the guest's serial console on this terminal, raw, until the escape key.
import { setTimeout as sleep } from "node:timers/promises";
import type { WebSocket } from "ws";
import type { ConsoleControl, ConsoleNotice } from "../../api-schema/index.js";
import type { Client } from "./client.js";
import { ClientError } from "./client.js";

const NORMAL = 1000;
/** How soon a console that has ended is looked at again. */
const AGAIN_MS = 500;

export interface ConsoleOptions {
  readonly offset: number | undefined;
  readonly input: NodeJS.ReadStream;
  readonly output: NodeJS.WriteStream;
  readonly notes: NodeJS.WriteStream;
  /** The byte that leaves, where input is a terminal; undefined: none does. */
  readonly leaveBy: number | undefined;
}

/** `^]` and its like as the byte that a terminal sends for them; `none` for none. */
export function escapeByte(name: string): number | undefined {
  if (name === "none") return undefined;
  const key = /^\^([@-_a-z])$/.exec(name)?.[1];
  if (key === undefined) throw new ClientError("--escape takes a control key such as ^], or none");
  return key.toUpperCase().charCodeAt(0) & 0x1f;
}

const keyName = (byte: number): string => `Ctrl-${String.fromCharCode(byte | 0x40)}`;

const streamPath = (vm: string, offset: number | undefined): string =>
  `/vms/${encodeURIComponent(vm)}/console/stream${offset === undefined ? "" : `?offset=${offset}`}`;

/** Resolves when the user leaves or the VM has ended. */
export async function attachConsole(
  client: Client,
  vm: string,
  options: ConsoleOptions,
): Promise<void> {
  const { input, output, notes, offset } = options;
  const socket = client.stream(streamPath(vm, offset));
  const raw = input.isTTY === true;
  const leaveBy = raw ? options.leaveBy : undefined;
  if (raw) notes.write(`connected to ${vm}${leaveBy ? `; ${keyName(leaveBy)} leaves` : ""}\r\n`);
  const ended = untilClosed(socket, client);
  const tellSize = (): void => sendSize(socket, output);
  socket.on("message", (data: Buffer, binary: boolean) => {
    if (binary) output.write(data);
    else note(parsed(data), notes);
  });
  socket.on("open", () => {
    if (raw) input.setRawMode(true);
    tellSize();
    output.on("resize", tellSize); // SIGWINCH
    input.on("data", (data: Buffer) => forward(data, socket, leaveBy));
    // A pipe that ends has nothing more to say; the output may go on.
    input.resume();
  });
  try {
    await ended;
  } finally {
    output.off("resize", tellSize);
    if (raw) input.setRawMode(false);
    input.pause();
  }
}

/** Of a terminal that knows its size. */
function sendSize(socket: WebSocket, { isTTY, columns, rows }: NodeJS.WriteStream): void {
  if (!isTTY || socket.readyState !== socket.OPEN || !(columns > 0 && rows > 0)) return;
  socket.send(JSON.stringify({ kind: "resize", columns, rows } satisfies ConsoleControl));
}

/** Output alone, over all runs of the VM and restarts of the daemon; until the signal. */
export async function followConsole(
  client: Client,
  vm: string,
  { offset: from, output, notes }: Pick<ConsoleOptions, "offset" | "output" | "notes">,
  signal: AbortSignal,
): Promise<void> {
  let offset = from;
  let seen = false;
  while (!signal.aborted) {
    const socket = client.stream(streamPath(vm, offset));
    const stop = (): void => socket.close(NORMAL);
    signal.addEventListener("abort", stop);
    socket.on("message", (data: Buffer, binary: boolean) => {
      if (binary) {
        offset = (offset ?? 0) + data.length;
        output.write(data);
        return;
      }
      const notice = parsed(data);
      if (notice.kind === "start") offset = notice.offset;
      if (notice.kind === "gap") offset = notice.to;
      if (notice.kind === "gap") note(notice, notes);
    });
    try {
      await untilClosed(socket, client);
      seen = true;
    } catch (error) {
      if (!seen && !(await isThere(client, vm))) throw error; // there is no such VM, say
    }
    signal.removeEventListener("abort", stop);
    if (!signal.aborted) await sleep(AGAIN_MS, undefined, { signal }).catch(() => {});
  }
}

const isThere = (client: Client, vm: string): Promise<boolean> =>
  client.call("getVm", { vm }).then(
    ({ definition: { serial } }) =>
      serial.com1.backend === "console" || serial.com2.backend === "console",
    () => false,
  );

function forward(data: Buffer, socket: WebSocket, leaveBy: number | undefined): void {
  const leaves = leaveBy === undefined ? -1 : data.indexOf(leaveBy);
  const typed = leaves < 0 ? data : data.subarray(0, leaves);
  if (typed.length > 0 && socket.readyState === socket.OPEN) socket.send(typed);
  if (leaves >= 0) socket.close(NORMAL);
}

const parsed = (data: Buffer): ConsoleNotice => JSON.parse(data.toString("utf8")) as ConsoleNotice;

function note(notice: ConsoleNotice, notes: NodeJS.WriteStream): void {
  if (notice.kind === "gap")
    notes.write(`\r\n[${notice.to - notice.from} bytes of output are no longer kept]\r\n`);
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
