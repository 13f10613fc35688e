// A VM process as the first release had it, without a VM: `node protocol-1.js FOLDER`. It holds the
// folder's lock and speaks protocol 1 and no other, word for word as that release did. It stands
// still while the daemon's protocol goes on: never change it, and imports of ours stay out of what
// it says.
import { openSync, readFileSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { join } from "node:path";
import { host } from "../../native/host.js";

const [folder = ""] = process.argv.slice(2);
const lock = openSync(join(folder, "lock"), "a+", 0o600);
if (!host().lockFile(lock)) process.exit(1);
writeFileSync(join(folder, "lock"), "");
writeSync(lock, String(process.pid));
const { nonce, definition } = JSON.parse(readFileSync(join(folder, "launch.json"), "utf8"));

let status = { state: "running", generation: 2, resets: 0 };
const clients = new Set<Socket>();

interface Failure {
  readonly code: number;
  readonly message: string;
  readonly data: { readonly code: string; readonly details: readonly (string | number)[] };
}

const failure = (code: string, details: readonly (string | number)[], rpc = -32000): Failure => ({
  code: rpc,
  message: code,
  data: { code, details },
});

function become(state: string, more: object = {}): object {
  status = { ...status, ...more, state, generation: status.generation + 1 };
  for (const socket of clients)
    socket.write(`${JSON.stringify({ jsonrpc: "2.0", method: "stateChanged", params: status })}\n`);
  return status;
}

function end(): object {
  const last = become("stopped", { reason: "stop requested", exitStatus: 100 });
  const file = { nonce, pid: process.pid, time: Date.now(), status: last };
  writeFileSync(join(folder, "status.json"), JSON.stringify(file));
  setTimeout(() => process.exit(0), 20);
  return last;
}

const methods: Readonly<Record<string, (params: { protocol?: number }) => object>> = {
  hello: ({ protocol }) => {
    if (protocol !== 1) throw failure("PROTOCOL_MISMATCH", [1, protocol ?? 0]);
    const { name, uuid } = definition;
    return { protocol: 1, version: "0.1.0", pid: process.pid, nonce, name, uuid };
  },
  state: () => ({ status, guestTime: 1.5, acpiEnabled: false, consoleEnd: 0 }),
  pause: () => become("paused"),
  resume: () => become("running"),
  stop: end,
  shutdown: end,
  statistics: () => ({
    cpuUser: 1,
    cpuSystem: 0.5,
    guestTime: 1.5,
    vcpus: [{ halts: 3 }],
    bus: {},
  }),
};

function answer(line: string): object {
  const { id, method, params } = JSON.parse(line);
  const serve = methods[method];
  try {
    if (serve === undefined) throw failure("METHOD_NOT_FOUND", [method], -32601);
    return { jsonrpc: "2.0", id, result: serve(params) };
  } catch (error) {
    return { jsonrpc: "2.0", id, error };
  }
}

const path = join(folder, "vm.sock");
rmSync(path, { force: true });
createServer((socket) => {
  clients.add(socket);
  let text = "";
  socket.on("data", (data) => {
    const lines = (text + data.toString()).split("\n");
    text = lines.pop() ?? "";
    for (const line of lines) socket.write(`${JSON.stringify(answer(line))}\n`);
  });
  socket.on("error", () => socket.destroy());
  socket.on("close", () => clients.delete(socket));
}).listen(path);
