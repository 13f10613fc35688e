// The document against the server: every operation, status and error of it is provoked on a real
// daemon, and each answer is of the schema that it gives; every route of the server is in it. A new
// row of the table fails here until STEPS, or NOT_PROVOKED with a reason, has what is new.
import { join } from "node:path";
import websocket from "@fastify/websocket";
import { Ajv2020 } from "ajv/dist/2020.js";
import Fastify from "fastify";
import { afterAll, beforeAll, expect, it } from "vitest";
import { WebSocket } from "ws";
import type { ErrorCode } from "../api-schema/index.js";
import {
  buildErrors,
  errorsOf,
  methodAndPath,
  type OperationId,
  operationIds,
  specOf,
} from "../api-schema/operations.js";
import { eventually, type RawAnswer, rawRequest, TestDaemon } from "../test/daemon/daemon.js";
import { operationRoutes, routePath } from "./http/routes.js";
import { rpcRoutes } from "./http/rpc-routes.js";

type Document = { readonly paths: Record<string, Record<string, { operationId: string }>> };

interface Step {
  readonly path?: Readonly<Record<string, string>>;
  readonly query?: string;
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
  /** A status of success, or the code of a refusal. */
  readonly gives: number | ErrorCode;
}

/** What no client can bring about at will; each has a test where it can be. */
const NOT_PROVOKED: Readonly<Partial<Record<ErrorCode, string>>> = {
  INTERNAL: "would be a fault of the daemon",
  HOST_PROBE_FAILED: "the host's accelerators would have to be broken",
  DATABASE_BROKEN: "the disk would have to be full or broken",
  VM_BUSY: "needs dozens of requests that wait: request-queue",
  VM_PROCESS_GONE: "needs a process that is killed in between: recovery.test.ts",
  VM_PROCESS_SILENT: "needs a process that hangs for 30 s: recovery.test.ts",
  VM_PROCESS_OLD: "needs a process of an older release",
  VM_START_FAILED: "needs a process that cannot be started",
  IDEMPOTENCY_KEY_BUSY: "needs two at the same instant: api.test.ts",
  RATE_LIMITED: "security.test.ts",
  MEDIUM_LOCKED: "needs a guest that locks its drive",
  IMAGE_LOCKED: "needs two VMs on one image",
  CAPTURE_FAILED: "needs a file system that fails",
  OPERATION_ENDED: "depends on how fast an operation ends",
  PATH_LEADS_OUT: "needs --path: security.test.ts",
  PATH_OUTSIDE: "needs --path or a token: security.test.ts",
};
const HERE_NOT: Readonly<Record<string, string>> = {
  "startVm STORED_NETWORK_NOT_FOUND": "a network that a definition names is not deleted",
  "createImage STORED_IMAGE_UNFIT": "needs a file system that is full",
  "importImage 202": "a small file has been copied before the answer",
  "cloneImage 202": "likewise",
  "cloneVm 202": "a clone without disks has ended before the answer",
  "shutDownHost 200": "it goes on for a while",
  "changeMedium VM_STATE_FORBIDS": "only while it starts or stops",
};

let daemon: TestDaemon;
let document: Document;
let port = 0;
const tokens = { read: "", admin: "" };
const seen = new Map<string, Set<number | string>>();
const ajv = new Ajv2020({ strict: false, validateFormats: false });

const nic = { slot: "4:0", type: "virtio-net", backend: { kind: "switch", network: "lan" } };
const bridges = [
  { slot: "0:0", type: "hostbridge" },
  { slot: "31:0", type: "lpc" },
];

beforeAll(async () => {
  daemon = await TestDaemon.start(["--listen", "127.0.0.1:0"]);
  document = await daemon.client.json<Document>("GET", "/openapi.json");
  ajv.addSchema(document, "openapi");
  port = await eventually(
    () => Number(/http:\/\/127\.0\.0\.1:([0-9]+)/.exec(daemon.output)?.[1]) || undefined,
  );
  for (const scope of ["read", "admin"] as const)
    tokens[scope] = (
      await daemon.client.call("createToken", { body: { name: scope, scope } })
    ).token;
  await daemon.create("off", "hello");
  await daemon.create("cd", "hello", { devices: [...bridges, { slot: "5:0", type: "ahci-cd" }] });
  await daemon.create("guarded", "hello", { protected: true });
  await daemon.create("template", "hello", { template: true });
  await daemon.create("mute", "hello", { serial: { com1: { backend: "none" } } });
  const disk = { slot: "6:0", type: "virtio-blk", path: daemon.file("disk", Buffer.alloc(4096)) };
  await daemon.create("disk", "hello", { devices: [...bridges, disk] });
  await daemon.create("broken", "hello", {
    boot: { kind: "multiboot", kernel: daemon.file("text", "x") },
  });
  await daemon.client.call("createImage", { body: { name: "live", format: "raw", size: 4096 } });
  const kept = { slot: "6:0", type: "virtio-blk", image: "live" };
  await daemon.run("on-image", "hello", { devices: [...bridges, kept] });
  await daemon.client.call("createNetwork", {
    body: { name: "held", backend: { kind: "switch" }, labels: {} },
  });
  await daemon.create("plugged", "hello", {
    devices: [...bridges, { slot: "4:0", type: "virtio-net", network: "held" }],
  });
  await daemon.run("net", "hello", { devices: [...bridges, nic] });
  await daemon.run("busy", "hello");
});
afterAll(() => daemon.end());

const boot = () => ({ kind: "multiboot", kernel: join(daemon.folder, "hello.bin") });
const vm = (name: string) => ({ vm: name });

/** In this order: each finds what those before have left. */
const STEPS = (): [OperationId, Step[]][] => [
  ["getHost", [{ gives: 200 }]],
  ...storedNetworkSteps(),
  [
    "createImage",
    [
      { body: { name: "root", format: "raw", size: 4096 }, gives: 201 },
      { body: { name: "used", format: "raw", size: 4096 }, gives: 201 },
      { body: { name: "root", format: "qcow2", size: 4096 }, gives: "STORED_IMAGE_EXISTS" },
    ],
  ],
  ["listImages", [{ gives: 200 }, { query: "limit=1", gives: 200 }]],
  [
    "getImage",
    [
      { path: { image: "root" }, gives: 200 },
      { path: { image: "none" }, gives: "STORED_IMAGE_NOT_FOUND" },
    ],
  ],
  [
    "growImage",
    [
      { path: { image: "root" }, body: { size: 8192 }, gives: 200 },
      { path: { image: "root" }, body: { size: 512 }, gives: "STORED_IMAGE_UNFIT" },
      { path: { image: "none" }, body: { size: 512 }, gives: "STORED_IMAGE_NOT_FOUND" },
      { path: { image: "live" }, body: { size: 8192 }, gives: "STORED_IMAGE_IN_USE" },
    ],
  ],
  [
    "importImage",
    [
      {
        query: "timeout=20",
        body: { name: "imported", format: "raw", file: join(daemon.folder, "disk") },
        gives: 200,
      },
      {
        body: { name: "root", format: "raw", file: join(daemon.folder, "disk") },
        gives: "STORED_IMAGE_EXISTS",
      },
    ],
  ],
  [
    "cloneImage",
    [
      { path: { image: "root" }, query: "timeout=20", body: { name: "root2" }, gives: 200 },
      { path: { image: "root" }, body: { name: "root2" }, gives: "STORED_IMAGE_EXISTS" },
      { path: { image: "none" }, body: { name: "w" }, gives: "STORED_IMAGE_NOT_FOUND" },
      { path: { image: "live" }, body: { name: "w" }, gives: "STORED_IMAGE_IN_USE" },
    ],
  ],
  [
    "deleteImage",
    [
      { path: { image: "root2" }, gives: 204 },
      { path: { image: "none" }, gives: "STORED_IMAGE_NOT_FOUND" },
      { path: { image: "live" }, gives: "STORED_IMAGE_IN_USE" },
    ],
  ],
  ["listVms", [{ gives: 200 }, { query: "limit=1", gives: 200 }]],
  [
    "createVm",
    [
      { body: { name: "made", boot: boot() }, gives: 201 },
      { query: "dryRun=true", body: { name: "dry", boot: boot() }, gives: 200 },
      { query: "dryRun=true", body: { name: "made", boot: boot() }, gives: "DRY_RUN_FAILED" },
      { body: { name: "made", boot: boot() }, gives: "VM_EXISTS" },
      {
        body: { name: "w", boot: boot(), devices: [{ type: "virtio-blk", image: "none" }] },
        gives: "STORED_IMAGE_NOT_FOUND",
      },
      { body: unplugged(), gives: "STORED_NETWORK_NOT_FOUND" },
      {
        body: { name: "u", uuid: "00000000-0000-4000-8000-000000000001", boot: boot() },
        gives: 201,
      },
      {
        body: { name: "v", uuid: "00000000-0000-4000-8000-000000000001", boot: boot() },
        gives: "VM_UUID_EXISTS",
      },
    ],
  ],
  ["getVm", [{ path: vm("made"), gives: 200 }]],
  [
    "replaceVm",
    [
      { path: vm("put"), body: { name: "put", boot: boot() }, gives: 201 },
      { path: vm("put"), body: { name: "put", boot: boot() }, gives: 200 },
      { path: vm("put"), body: { name: "made", boot: boot() }, gives: "VM_EXISTS" },
      {
        path: vm("put"),
        body: { name: "put", boot: boot(), devices: [{ type: "virtio-blk", image: "none" }] },
        gives: "STORED_IMAGE_NOT_FOUND",
      },
      {
        path: vm("put"),
        body: { ...unplugged(), name: "put" },
        gives: "STORED_NETWORK_NOT_FOUND",
      },
      {
        path: vm("put2"),
        body: { name: "put2", uuid: "00000000-0000-4000-8000-000000000001", boot: boot() },
        gives: "VM_UUID_EXISTS",
      },
      {
        path: vm("put"),
        query: "dryRun=true",
        body: { name: "made", boot: boot() },
        gives: "DRY_RUN_FAILED",
      },
      {
        path: vm("busy"),
        body: { name: "busy", cpus: 7, boot: boot() },
        gives: "VM_STATE_FORBIDS",
      },
      {
        path: vm("nobody"),
        body: { name: "nobody", boot: boot() },
        headers: { "if-match": '"1"' },
        gives: "VM_NOT_FOUND",
      },
    ],
  ],
  [
    "changeVm",
    [
      {
        path: vm("made"),
        body: { devices: [{ type: "virtio-blk", image: "none" }] },
        gives: "STORED_IMAGE_NOT_FOUND",
      },
      {
        path: vm("made"),
        body: { devices: unplugged().devices },
        gives: "STORED_NETWORK_NOT_FOUND",
      },
      { path: vm("put"), body: { cpus: 2 }, gives: 200 },
      { path: vm("put"), body: { name: "made" }, gives: "VM_EXISTS" },
      { path: vm("put"), query: "dryRun=true", body: { name: "made" }, gives: "DRY_RUN_FAILED" },
      { path: vm("busy"), body: { cpus: 7 }, gives: "VM_STATE_FORBIDS" },
    ],
  ],
  [
    "deleteVm",
    [
      { path: vm("put"), gives: 204 },
      { path: vm("guarded"), gives: "VM_PROTECTED" },
      { path: vm("busy"), gives: "VM_STATE_FORBIDS" },
    ],
  ],
  [
    "startVm",
    [
      { path: vm("off"), query: "wait=running", gives: 200 },
      { path: vm("off"), gives: "VM_STATE_FORBIDS" },
      { path: vm("template"), gives: "VM_TEMPLATE" },
      { path: vm("broken"), gives: "MULTIBOOT_NO_HEADER" },
    ],
  ],
  [
    "pauseVm",
    [
      { path: vm("off"), gives: 200 },
      { path: vm("made"), gives: "VM_STATE_FORBIDS" },
    ],
  ],
  [
    "getVcpuRegisters",
    [
      { path: { vm: "off", vcpu: "0" }, gives: 200 },
      { path: { vm: "off", vcpu: "9" }, gives: "VCPU_NOT_FOUND" },
      { path: { vm: "made", vcpu: "0" }, gives: "VM_STATE_FORBIDS" },
    ],
  ],
  ["shutdownVm", [{ path: vm("off"), gives: "VM_STATE_FORBIDS" }]],
  [
    "resumeVm",
    [
      { path: vm("off"), gives: 200 },
      { path: vm("made"), gives: "VM_STATE_FORBIDS" },
    ],
  ],
  [
    "resetVm",
    [
      { path: vm("off"), gives: 200 },
      { path: vm("made"), gives: "VM_STATE_FORBIDS" },
    ],
  ],
  [
    "getVmStatistics",
    [
      { path: vm("off"), gives: 200 },
      { path: vm("made"), gives: "VM_STATE_FORBIDS" },
    ],
  ],
  ["shutdownVm", [{ path: vm("off"), body: { timeout: 0 }, query: "wait=stopped", gives: 200 }]],
  ["killVm", [{ path: vm("off"), gives: 200 }]],
  ["stopVm", [{ path: vm("off"), gives: 200 }]],
  [
    "cloneVm",
    [
      { path: vm("made"), query: "timeout=20", body: { name: "copy" }, gives: 200 },
      { path: vm("made"), body: { name: "copy" }, gives: "VM_EXISTS" },
      {
        path: vm("made"),
        body: { name: "w", uuid: "00000000-0000-4000-8000-000000000001" },
        gives: "VM_UUID_EXISTS",
      },
      { path: vm("disk"), body: { name: "w" }, gives: "CLONE_DISK_MISSING" },
      {
        path: vm("made"),
        body: { name: "w", changes: { devices: unpluggedInSlots() } },
        gives: "STORED_NETWORK_NOT_FOUND",
      },
      {
        path: vm("made"),
        body: { name: "w", disks: { "9:0": "/tmp/w" } },
        gives: "CLONE_DISK_UNKNOWN",
      },
      { path: vm("busy"), body: { name: "w" }, gives: "VM_STATE_FORBIDS" },
    ],
  ],
  ["listMedia", [{ path: vm("cd"), gives: 200 }]],
  [
    "changeMedium",
    [
      {
        path: { vm: "cd", device: "5:0" },
        body: { path: join(daemon.folder, "hello.bin") },
        gives: 200,
      },
      { path: { vm: "cd", device: "9:0" }, body: {}, gives: "DRIVE_NOT_FOUND" },
    ],
  ],
  [
    "listNetworkCards",
    [
      { path: vm("net"), gives: 200 },
      { path: vm("made"), gives: "VM_STATE_FORBIDS" },
    ],
  ],
  ...networkSteps(),
  ["readConsole", [{ path: vm("net"), gives: 200 }]],
  [
    "streamConsole",
    [
      { path: vm("mute"), gives: "CONSOLE_NONE" },
      { path: vm("net"), gives: "UPGRADE_REQUIRED" },
    ],
  ],
  ["listTokens", [{ gives: 200 }]],
  [
    "createToken",
    [
      { body: { name: "t", scope: "read" }, gives: 201 },
      { body: { name: "t", scope: "read" }, gives: "TOKEN_EXISTS" },
    ],
  ],
  [
    "deleteToken",
    [
      { path: { token: "t" }, gives: 204 },
      { path: { token: "t" }, gives: "TOKEN_NOT_FOUND" },
    ],
  ],
  ["getOpenApi", [{ gives: 200 }]],
  ["getDocs", [{ gives: 200 }]],
  [
    "getDocsFile",
    [
      { path: { file: "start.js" }, gives: 200 },
      { path: { file: "swagger-ui.css" }, gives: 200 },
    ],
  ],
  ["watchEvents", [{ query: "vm=nobody", gives: "VM_NOT_FOUND" }]],
  ["listOperations", [{ gives: 200 }]],
  ["getOperation", [{ path: { operation: "0-0" }, gives: "OPERATION_NOT_FOUND" }]],
  ["cancelOperation", [{ path: { operation: "0-0" }, gives: "OPERATION_NOT_FOUND" }]],
  ["getMetrics", [{ gives: 200 }]],
  ["getHealth", [{ gives: 200 }]],
  ["getReadiness", [{ gives: 200 }]],
];

const unplugged = () => ({
  name: "w",
  boot: boot(),
  devices: [{ type: "virtio-net", network: "none" }],
});

/** A clone's changes name every slot. */
const unpluggedInSlots = () => unplugged().devices.map((device) => ({ slot: "4:0", ...device }));

function storedNetworkSteps(): [OperationId, Step[]][] {
  const at = (network: string) => ({ network });
  const plain = (name: string) => ({ name, backend: { kind: "switch" } });
  const unknown: Step = { path: at("none"), gives: "STORED_NETWORK_NOT_FOUND" };
  const wrong = { kind: "vmnet", mode: "bridged" };
  const dry = { query: "dryRun=true" };
  return [
    [
      "createNetwork",
      [
        { body: plain("used"), gives: 201 },
        { body: plain("used"), gives: "STORED_NETWORK_EXISTS" },
        { body: plain("spare"), ...dry, gives: 200 },
        { body: plain("used"), ...dry, gives: "DRY_RUN_FAILED" },
        { body: plain("spare"), gives: 201 },
      ],
    ],
    ["listNetworks", [{ gives: 200 }, { query: "limit=1", gives: 200 }]],
    ["getNetwork", [{ path: at("used"), gives: 200 }, unknown]],
    [
      "replaceNetwork",
      [
        { path: at("put"), body: plain("put"), gives: 201 },
        { path: at("put"), body: plain("put"), gives: 200 },
        { path: at("put"), body: { name: "put", backend: wrong }, ...dry, gives: "DRY_RUN_FAILED" },
        { ...unknown, body: plain("none"), headers: { "if-match": '"1"' } },
      ],
    ],
    [
      "changeNetwork",
      [
        { path: at("put"), body: { mtu: 9000 }, gives: 200 },
        { path: at("put"), body: { backend: wrong }, ...dry, gives: "DRY_RUN_FAILED" },
        { ...unknown, body: {} },
      ],
    ],
    [
      "deleteNetwork",
      [
        { path: at("put"), gives: 204 },
        { path: at("held"), gives: "STORED_NETWORK_IN_USE" },
        unknown,
      ],
    ],
  ];
}

function networkSteps(): [OperationId, Step[]][] {
  const at = (name: string, slot = "4:0") => ({ vm: name, slot });
  const refused = (body?: object): Step[] => [
    { path: at("net", "9:0"), body, gives: "NETWORK_NOT_FOUND" },
    { path: at("made"), body, gives: "VM_STATE_FORBIDS" },
  ];
  const file = join(daemon.folder, "frames.pcapng");
  return [
    ["setLink", [{ path: at("net"), body: { up: false }, gives: 200 }, ...refused({ up: true })]],
    [
      "startCapture",
      [{ path: at("net"), body: { file }, gives: 200 }, ...refused({ file: `${file}2` })],
    ],
    ["stopCapture", [{ path: at("net"), gives: 200 }, ...refused()]],
  ];
}

/** What follows from the row alone. */
function* generic(id: OperationId): Iterable<[ErrorCode, Promise<RawAnswer>]> {
  const spec = specOf(id);
  const some = {
    vm: "busy",
    vcpu: "0",
    device: "5:0",
    slot: "4:0",
    token: "t",
    file: "start.js",
    operation: "0-0",
    image: "used",
    network: "used",
  };
  const [method, url] = target(id, { path: some });
  const json = { "content-type": "application/json" };
  const tcp = (headers: Record<string, string>) =>
    rawRequest({ host: "127.0.0.1", port }, method, url, { headers });
  const key = { "idempotency-key": "conformance" };
  yield ["REQUEST_INVALID", daemon.raw(method, `${url}?nonsense=1`)];
  yield [
    "HOST_NOT_ALLOWED",
    tcp({ authorization: `Bearer ${tokens.admin}`, host: "evil.example" }),
  ];
  if (spec.scope !== "none") yield ["UNAUTHORIZED", tcp({})];
  if (spec.scope === "operate" || spec.scope === "admin")
    yield ["FORBIDDEN", tcp({ authorization: `Bearer ${tokens.read}` })];
  if (spec.body !== undefined) {
    yield ["REQUEST_NOT_JSON", daemon.raw(method, url, { headers: json, body: "{" })];
    yield [
      "MEDIA_TYPE",
      daemon.raw(method, url, { headers: { "content-type": "text/x" }, body: "x" }),
    ];
    const large = { ...json, "content-length": String(2 ** 21) };
    yield ["REQUEST_TOO_LARGE", daemon.raw(method, url, { headers: large, body: "{" })];
  }
  const stale = { "if-match": '"99"' };
  const disk = id === "replaceVm" ? { name: "disk", boot: boot() } : sample(id);
  if (spec.conditional === true)
    yield [
      errorsOf(spec).includes("VM_CHANGED") ? "VM_CHANGED" : "STORED_NETWORK_CHANGED",
      ask(id, { path: { ...some, vm: "disk" }, headers: stale, body: disk, gives: 412 }),
    ];
  if (url.includes("/busy") && id !== "replaceVm")
    yield [
      "VM_NOT_FOUND",
      ask(id, { path: { ...some, vm: "nobody" }, body: sample(id), gives: 404 }),
    ];
  if (errorsOf(spec).includes("IDEMPOTENCY_KEY_REUSED"))
    yield [
      "IDEMPOTENCY_KEY_REUSED",
      ask(id, { path: some, headers: key, body: sample(id), gives: 422 }),
    ];
}

/** A body that the schema takes. */
const sample = (id: OperationId): unknown => {
  const bodies: Partial<Record<OperationId, object>> = {
    createVm: { name: "s", boot: boot() },
    replaceVm: { name: "busy", boot: boot() },
    changeVm: { labels: {} },
    cloneVm: { name: "s" },
    createImage: { name: "s", format: "raw", size: 512 },
    importImage: { name: "s", format: "raw", file: "/tmp/s" },
    cloneImage: { name: "s" },
    growImage: { size: 512 },
    createNetwork: { name: "s", backend: { kind: "switch" } },
    replaceNetwork: { name: "used", backend: { kind: "switch" } },
    setLink: { up: true },
    startCapture: { file: "/tmp/s" },
  };
  return specOf(id).body === undefined ? undefined : (bodies[id] ?? {});
};

function target(id: OperationId, { path = {}, query }: Partial<Step>): [string, string] {
  const [method, template] = methodAndPath(specOf(id));
  const url = template.replace(/\{([a-z]+)\}/g, (_, name: string) =>
    encodeURIComponent(path[name] ?? ""),
  );
  return [method, query === undefined ? url : `${url}?${query}`];
}

function ask(id: OperationId, step: Step): Promise<RawAnswer> {
  const [method, url] = target(id, step);
  const { body, headers = {} } = step;
  const json = body === undefined ? {} : { "content-type": "application/json" };
  return daemon.raw(method, url, {
    headers: { ...headers, ...json },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
}

/** The answer is one that the document gives, of the schema that it gives; remembers it. */
function conforms(id: OperationId, answer: RawAnswer): number | string {
  const [method, path] = methodAndPath(specOf(id));
  const pointer = ["paths", path, method.toLowerCase(), "responses", String(answer.status)];
  const found = pointer.reduce<unknown>(
    (at, name) => (at as Record<string, unknown> | undefined)?.[name],
    document,
  );
  expect(found, `${id}: ${answer.status} ${answer.text.slice(0, 300)}`).toBeDefined();
  const [type = ""] = String(answer.headers["content-type"] ?? "").split(";");
  if (type.endsWith("json")) {
    const fragment = [...pointer, "content", type, "schema"].map((name) =>
      encodeURIComponent(name.replaceAll("~", "~0").replaceAll("/", "~1")),
    );
    const validate = ajv.compile({ $ref: `openapi#/${fragment.join("/")}` });
    const body = JSON.parse(answer.text) as { code?: string };
    expect(validate(body) ? [] : validate.errors, `${id}: ${answer.text.slice(0, 500)}`).toEqual(
      [],
    );
    return remember(id, answer.status < 400 ? answer.status : String(body.code));
  }
  return remember(id, answer.status);
}

function remember(id: OperationId, what: number | string): number | string {
  seen.set(id, (seen.get(id) ?? new Set()).add(what));
  return what;
}

it("each operation answers as the document says", async () => {
  for (const [id, steps] of STEPS())
    for (const step of steps) {
      const answer = await ask(id, step);
      expect([id, step, conforms(id, answer)]).toEqual([id, step, step.gives]);
    }
}, 120_000);

it("each refusal that follows from a row is given", async () => {
  const named = {
    headers: { "idempotency-key": "conformance" },
    body: { name: "keyed", boot: boot() },
  };
  expect((await ask("createVm", { ...named, gives: 201 })).status).toBe(201);
  for (const id of operationIds)
    for (const [code, answer] of generic(id)) {
      const given = conforms(id, await answer);
      // One address asks without a token so often here that it is told to wait.
      expect([id, given === "RATE_LIMITED" ? "UNAUTHORIZED" : given]).toEqual([id, code]);
      remember(id, code);
    }
}, 120_000);

it("streams: events over SSE, the console over a WebSocket", async () => {
  const stop = new AbortController();
  const events = daemon.client.events("watchEvents", {}, { after: 0, signal: stop.signal });
  for await (const { sequence, data } of events) {
    expect(sequence).toBeGreaterThan(0);
    expect(data.kind).toBeDefined();
    break;
  }
  stop.abort();
  remember("watchEvents", 200);
  const socket = new WebSocket(`ws+unix:${daemon.socket}:/v1/vms/net/console/stream`);
  await new Promise((resolve, reject) => socket.once("open", resolve).once("error", reject));
  socket.terminate();
  remember("streamConsole", 101);
  const { operations } = await daemon.client.call("listOperations", {});
  const operation = operations[0]?.id ?? "";
  expect(
    conforms("getOperation", await ask("getOperation", { path: { operation }, gives: 200 })),
  ).toBe(200);
});

it("the host's shutdown, at the end", async () => {
  // A guest whose process hangs keeps it from ending at once.
  process.kill((await daemon.vm("busy")).status.pid ?? 0, "SIGSTOP");
  const begun = await ask("shutDownHost", { query: "timeout=0", body: {}, gives: 202 });
  expect(conforms("shutDownHost", begun)).toBe(202);
  const refused: [OperationId, Step][] = [
    ["shutDownHost", { body: {}, gives: "HOST_SHUTTING_DOWN" }],
    ["startVm", { path: vm("made"), gives: "HOST_SHUTTING_DOWN" }],
    ["getReadiness", { gives: "HOST_SHUTTING_DOWN" }],
  ];
  for (const [id, step] of refused) expect(conforms(id, await ask(id, step))).toBe(step.gives);
  const operation = (JSON.parse(begun.text) as { id: string }).id;
  const cancelled = await ask("cancelOperation", { path: { operation }, gives: 200 });
  expect(conforms("cancelOperation", cancelled)).toBe(200);
});

it("nothing of the document is left out", () => {
  const missing: string[] = [];
  for (const id of operationIds) {
    const spec = specOf(id);
    const got = seen.get(id) ?? new Set();
    const statuses = [spec.answer.status, ...("or" in spec.answer ? [spec.answer.or] : [])];
    for (const status of statuses)
      if (status !== undefined && !got.has(status) && !(`${id} ${status}` in HERE_NOT))
        missing.push(`${id} ${status}`);
    for (const code of errorsOf(spec))
      if (
        !got.has(code) &&
        !(`${id} ${code}` in HERE_NOT) &&
        !(code in NOT_PROVOKED) &&
        !buildErrors.includes(code)
      )
        missing.push(`${id} ${code}`);
  }
  expect(missing).toEqual([]);
});

it("every route of the server is in the document, and the other way round", async () => {
  const app = Fastify({ exposeHeadRoutes: false });
  const routes: string[] = [];
  app.addHook("onRoute", ({ method, url }) => void routes.push(`${String(method)} ${url}`));
  await app.register(websocket);
  const dispatcher = { call: () => Promise.resolve(undefined) };
  await app.register(operationRoutes, { dispatcher });
  await app.register(rpcRoutes, { dispatcher, stateOf: () => undefined });
  await app.ready();
  const documented = Object.entries(document.paths).flatMap(([path, item]) =>
    Object.keys(item).map((method) => `${method.toUpperCase()} ${routePath(path)}`),
  );
  expect(routes.sort()).toEqual(documented.sort());
  await app.close();
});
