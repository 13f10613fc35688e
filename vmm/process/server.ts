// The Unix socket of a VM process: who connects, and what each method does with the VM.
import { chmodSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import type { ConsoleLog } from "../../api-schema/console-log.js";
import { reasonOf, VmError } from "../../api-schema/errors.js";
import {
  MAX_SOCKET_PATH,
  MIN_VM_PROTOCOL,
  VM_PROTOCOL,
  type VmMethod,
  type VmParams,
  type VmResult,
} from "../../api-schema/vm-rpc.js";
import { removeName } from "../../devices/own-name.js";
import type { ConsoleBackend } from "../../devices/serial/console.js";
import type { VirtualMachine } from "../machine.js";
import type { Networks } from "../networks.js";
import { Connection } from "./connection.js";
import { ConsoleFollower } from "./follower.js";
import type { HandedFiles } from "./handed-files.js";

const MAX_CLIENTS = 64;

export interface Served {
  readonly vm: VirtualMachine;
  readonly console: ConsoleBackend | undefined;
  readonly networks: Networks;
  readonly files: HandedFiles;
  readonly nonce: string;
  readonly version: string;
}

type Handlers = {
  readonly [M in VmMethod]: (
    params: VmParams<M>,
    from: Client,
  ) => Promise<VmResult<M>> | VmResult<M>;
};

interface Client {
  readonly connection: Connection;
  follower: ConsoleFollower | undefined;
}

export function checkSocketPath(path: string): void {
  const length = Buffer.byteLength(path);
  if (length > MAX_SOCKET_PATH) throw new VmError("SOCKET_PATH_TOO_LONG", [path, length]);
}

/** Only who may use the socket's folder comes this far; the mode says it again. */
export function listenOn(server: Server, path: string): Promise<void> {
  // Who holds the lock may take away a socket that another left behind.
  rmSync(path, { force: true });
  return new Promise((resolve, reject) => {
    server.once("error", (error) =>
      reject(new VmError("LAUNCH_INVALID", [path, reasonOf(error)], { cause: error })),
    );
    server.listen(path, () => {
      chmodSync(path, 0o600);
      resolve();
    });
  });
}

export class RpcServer {
  readonly #server: Server;
  readonly #path: string;
  readonly #clients = new Set<Client>();
  readonly #handlers: Handlers;

  constructor(path: string, served: Served) {
    checkSocketPath(path);
    this.#path = path;
    this.#handlers = handlersFor(served);
    this.#server = createServer({ allowHalfOpen: true }, (socket) => this.#accept(socket));
    this.#server.maxConnections = MAX_CLIENTS;
    served.vm.onStatus((status) => {
      for (const { connection } of this.#clients) {
        if (connection.greeted) connection.notify("stateChanged", status);
      }
    });
  }

  listen(): Promise<void> {
    return listenOn(this.#server, this.#path);
  }

  close(): void {
    this.#server.close();
    for (const { connection, follower } of this.#clients) {
      follower?.end();
      connection.close();
    }
    removeName(this.#path);
  }

  #accept(socket: Socket): void {
    const client: Client = {
      connection: new Connection(socket, (method, params) => this.#answer(method, params, client)),
      follower: undefined,
    };
    this.#clients.add(client);
    socket.on("close", () => {
      client.follower?.end();
      this.#clients.delete(client);
    });
  }

  #answer(method: VmMethod, params: unknown, from: Client): unknown {
    // The connection has checked the parameters against this method's schema.
    const handler = this.#handlers[method] as (params: unknown, from: Client) => unknown;
    return handler(params, from);
  }
}

const base64 = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64");

function followConsole(console: ConsoleBackend, follow: boolean, client: Client): { end: number } {
  client.follower?.end();
  client.follower = follow ? new ConsoleFollower(client.connection, console) : undefined;
  return { end: console.log.end };
}

function needConsole(console: ConsoleBackend | undefined): ConsoleBackend {
  if (console === undefined) throw new VmError("CONSOLE_NONE");
  return console;
}

const readLog = (
  log: ConsoleLog,
  { offset, length }: VmParams<"consoleRead">,
): VmResult<"consoleRead"> => {
  const found = log.read(offset, length);
  return {
    offset: found.offset,
    data: base64(found.bytes),
    start: found.first,
    end: found.end,
  };
};

function handlersFor(served: Served): Handlers {
  const { vm, console, networks, nonce, version } = served;
  const { name, uuid } = vm.definition;
  return {
    hello({ protocol }, { connection }) {
      if (protocol < MIN_VM_PROTOCOL || protocol > VM_PROTOCOL)
        throw new VmError("PROTOCOL_MISMATCH", [VM_PROTOCOL, protocol]);
      connection.greeted = true;
      return { protocol, version, pid: process.pid, nonce, name, uuid };
    },
    state: () => ({
      status: vm.status,
      accelerator: vm.accelerator,
      guestTime: vm.guestTime,
      acpiEnabled: vm.acpiEnabled,
      consoleEnd: console?.log.end ?? 0,
    }),
    start: () => vm.start(),
    powerButton: () => vm.powerButton(),
    shutdown: ({ timeout }) => vm.shutdown(timeout),
    reset: () => vm.reset(),
    stop: () => vm.stop(),
    pause: () => vm.pause(),
    resume: () => vm.resume(),
    consoleRead: (params) => readLog(needConsole(console).log, params),
    consoleWrite: ({ data }) => ({
      accepted: needConsole(console).send(Buffer.from(data, "base64")),
    }),
    consoleResize: (size) => {
      needConsole(console).resize(size);
      return {};
    },
    consoleFollow: ({ follow }, client) => followConsole(needConsole(console), follow, client),
    statistics: () => statisticsOf(vm),
    registers: ({ vcpu }) => {
      const { version: of, state } = vm.registers(vcpu);
      return { version: of, state: state as Record<string, unknown> };
    },
    media: () => ({ drives: vm.drives() }),
    changeMedium: ({ device, files, ...change }) =>
      served.files.with(files, async (given) => ({
        drives: await vm.changeMedium(device, change, given),
      })),
    networks: () => ({ networks: networks.views() }),
    setLink: ({ slot, up }) => networks.setLink(slot, up),
    startCapture: ({ slot, files, ...request }) =>
      served.files.with(files, (given) => networks.startCapture(slot, request, given)),
    stopCapture: ({ slot }) => networks.stopCapture(slot),
    saveState: async ({ directory }) => ({ bytes: await vm.saveState(directory) }),
  };
}

function statisticsOf(vm: VirtualMachine): VmResult<"statistics"> {
  const { user, system } = process.cpuUsage();
  const { vcpus, bus, devices } = vm.statistics();
  return {
    cpuUser: user / 1e6,
    cpuSystem: system / 1e6,
    guestTime: vm.guestTime,
    vcpus: vcpus.map((counters) => ({ ...counters })),
    bus: { ...bus },
    devices: Object.fromEntries(Object.entries(devices).map(([name, of]) => [name, { ...of }])),
    residentMemory: process.memoryUsage.rss(),
  };
}
