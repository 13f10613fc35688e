// The API of the daemon: one row for each operation. The routes, their validation and rights, the
// JSON-RPC methods, the OpenAPI document, the client's types and the conformance test are all made
// from this table; daemon/http/handlers/ has one function for each row, and the compiler refuses a
// row without one.
import { type Static, type TObject, type TSchema, Type } from "@sinclair/typebox";
import { type VmAction, vmActions } from "./actions.js";
import {
  ChangeVm,
  ConsoleQuery,
  CreateToken,
  CreateVm,
  DryRunQuery,
  HostInformation,
  LinkBody,
  MediaPath,
  NetworkList,
  NetworkPath,
  NewToken,
  NoBody,
  ShutdownBody,
  Statistics,
  StreamQuery,
  TokenList,
  TokenPath,
  VcpuPath,
  VcpuRegisters,
  VmList,
  VmListQuery,
  VmPath,
  VmQuery,
  VmView,
  vmPowers,
  WaitQuery,
} from "./daemon-api.js";
import { type ErrorCode, errorCodes } from "./errors.js";
import { Event, EventFilter } from "./events.js";
import {
  CloneImage,
  CreateImage,
  GrowImage,
  ImageList,
  ImageListQuery,
  ImagePath,
  ImageView,
  ImportImage,
} from "./images.js";
import {
  CloneBody,
  HostShutdownBody,
  LongOperation,
  LongOperationList,
  OperationPath,
  OperationQuery,
} from "./long-operations.js";
import { DriveList, MediumChange } from "./media.js";
import { CaptureRequest, NetworkView } from "./network.js";
import { closed, count, literals } from "./shape.js";
import {
  ChangeNetwork,
  StoredNetwork,
  StoredNetworkList,
  StoredNetworkPath,
  StoredNetworkQuery,
  StoredNetworkView,
} from "./stored-networks.js";

/** read: looks. operate: starts, stops, types at consoles. admin: all else. Each has those before. */
export const scopes = ["read", "operate", "admin"] as const;
export type Scope = (typeof scopes)[number];

export type HttpMethod = "GET" | "POST" | "PUT" | "PATCH" | "DELETE";

/** What an operation answers with when it succeeds. */
export type AnswerSpec =
  /** JSON of this shape. `etag`: its member `generation` is the entity tag. */
  | {
      readonly kind: "json";
      readonly status: 200 | 201 | 202;
      /** Another status of success, which the handler chooses. */
      readonly or?: 200 | 201 | 202;
      readonly schema: TSchema;
      readonly etag?: true;
      /** The Location header: a path with members of the answer in braces. */
      readonly location?: string;
    }
  | { readonly kind: "nothing"; readonly status: 204 }
  /** Bytes or text as they are; `headers` say more about them, by names that JSON-RPC uses. */
  | {
      readonly kind: "raw";
      readonly status: 200;
      readonly mediaType: string;
      readonly headers?: Readonly<
        Record<string, { readonly name: string; readonly schema: TSchema }>
      >;
    }
  /** Server-sent events, each with a sequence number as its id; notifications over JSON-RPC. */
  | { readonly kind: "events"; readonly status: 200; readonly schema: TSchema }
  /** A WebSocket with frames of its own. */
  | { readonly kind: "websocket"; readonly status: 101 };

/** What operations are about, in the order of the document. */
export const tags = {
  host: "The host and the daemon",
  vms: "Virtual machines: their definitions",
  lifecycle: "What a VM can be told to do",
  images: "Disk images that the daemon keeps, which definitions use by name",
  networks: "Networks that the daemon keeps, which network cards use by name",
  cards: "A running VM's network cards",
  inspection: "A look into a VM",
  media: "The discs in a VM's CD drives",
  console: "A VM's serial console",
  events: "What happens, as it happens",
  operations: "Long work",
  health: "The daemon itself, for those who watch it",
  tokens: "Tokens for clients over TCP",
  docs: "This document",
  rpc: "JSON-RPC 2.0",
} as const;
export type Tag = keyof typeof tags;

export interface OperationSpec {
  /** Method and whole path; parameters in braces, as in OpenAPI. */
  readonly http: `${HttpMethod} /${string}`;
  readonly tag: Tag;
  /** One line, as a command: "Start a VM". */
  readonly summary: string;
  readonly details?: string;
  /** The right that a token needs; none: no token is asked for. */
  readonly scope: Scope | "none";
  readonly path?: TObject;
  readonly query?: TObject;
  /** What is absent is taken as {}. */
  readonly body?: TSchema;
  readonly answer: AnswerSpec;
  /** Beyond those that follow from the row itself: see errorsOf(). */
  readonly errors?: readonly ErrorCode[];
  /** What is asked of the VM of the path: api-schema/actions.ts has the states that allow it. */
  readonly action?: VmAction;
  /** Its answer must not be stored: it takes no Idempotency-Key. */
  readonly secret?: true;
  /** Takes If-Match with the generation of the VM or network that the client has seen. */
  readonly conditional?: true;
}

/** What can go wrong between the daemon and a VM's process. */
const processErrors = [
  "VM_BUSY",
  "VM_PROCESS_GONE",
  "VM_PROCESS_OLD",
  "VM_PROCESS_SILENT",
] as const satisfies readonly ErrorCode[];

/** What keeps a machine from being built: of its devices, images and memory. */
const BUILD =
  /^(DEVICE|SERIAL|FIRMWARE|IMAGE|FILE_UN|FILE_CH|KERNEL|CMDLINE|INITRD|MULTIBOOT|MODULE|ACCELERATOR|CPU_MODEL|MEMORY|MACHINE|RUNTIME|LAUNCH|SOCKET_PATH|NETWORK_F|NOT_BUILT)/;
export const buildErrors: readonly ErrorCode[] = errorCodes.filter((code) => BUILD.test(code));

/** Of files that a definition names. */
const pathErrors = [
  "PATH_OUTSIDE",
  "PATH_LEADS_OUT",
  "DRY_RUN_FAILED",
] as const satisfies readonly ErrorCode[];

const vmJson = { kind: "json", status: 200, schema: VmView, etag: true } as const;

const verb = <const A extends VmAction, B extends TSchema>(action: A, summary: string, body: B) =>
  ({
    http: `POST /v1/vms/{vm}/${action}`,
    tag: "lifecycle",
    summary,
    scope: "operate",
    path: VmPath,
    query: WaitQuery,
    body,
    answer: vmJson,
    action,
    errors: processErrors,
  }) as const satisfies OperationSpec;

const longOperation = {
  kind: "json",
  status: 202,
  or: 200,
  schema: LongOperation,
  location: "/v1/operations/{id}",
} as const;

const imageJson = { kind: "json", status: 200, schema: ImageView } as const;
const noImage = ["STORED_IMAGE_NOT_FOUND"] as const satisfies readonly ErrorCode[];

const networkJson = { kind: "json", status: 200, schema: StoredNetworkView, etag: true } as const;
const noNetwork = ["STORED_NETWORK_NOT_FOUND"] as const satisfies readonly ErrorCode[];

const text = (mediaType: string) => ({ kind: "raw", status: 200, mediaType }) as const;

/** Of the page that shows the document. */
export const docsFiles = ["swagger-ui-bundle.js", "swagger-ui.css", "start.js"] as const;

export const operations = {
  getHost: {
    http: "GET /v1/host",
    tag: "host",
    summary: "What the host is and which accelerators it has",
    scope: "read",
    answer: { kind: "json", status: 200, schema: HostInformation },
    errors: ["HOST_PROBE_FAILED"],
  },

  listVms: {
    http: "GET /v1/vms",
    tag: "vms",
    summary: "List VMs, by name, state and labels, a page at a time",
    scope: "read",
    query: VmListQuery,
    answer: { kind: "json", status: 200, schema: VmList },
  },
  createVm: {
    http: "POST /v1/vms",
    tag: "vms",
    summary: "Define a VM",
    scope: "admin",
    query: DryRunQuery,
    body: CreateVm,
    answer: {
      kind: "json",
      status: 201,
      or: 200,
      schema: VmView,
      etag: true,
      location: "/v1/vms/{uuid}",
    },
    errors: ["VM_EXISTS", "VM_UUID_EXISTS", ...noImage, ...noNetwork, ...pathErrors],
  },
  getVm: {
    http: "GET /v1/vms/{vm}",
    tag: "vms",
    summary: "Show a VM",
    details:
      "With `generation` or `statusGeneration` the answer waits until it is another, or the `timeout` is over.",
    scope: "read",
    path: VmPath,
    query: VmQuery,
    answer: vmJson,
  },
  replaceVm: {
    http: "PUT /v1/vms/{vm}",
    tag: "vms",
    summary: "Say what a VM should be: define it, or make it so",
    details:
      "The whole definition, and with `power` what it should be doing, which the daemon then sees to. The same again changes nothing.",
    scope: "admin",
    path: VmPath,
    query: DryRunQuery,
    body: CreateVm,
    answer: { ...vmJson, or: 201, location: "/v1/vms/{uuid}" },
    conditional: true,
    errors: [
      "VM_EXISTS",
      "VM_UUID_EXISTS",
      "VM_STATE_FORBIDS",
      ...noImage,
      ...noNetwork,
      ...pathErrors,
    ],
  },
  changeVm: {
    http: "PATCH /v1/vms/{vm}",
    tag: "vms",
    summary: "Change a VM's definition",
    scope: "admin",
    path: VmPath,
    query: DryRunQuery,
    body: ChangeVm,
    answer: vmJson,
    action: "change",
    conditional: true,
    errors: ["VM_EXISTS", ...noImage, ...noNetwork, ...pathErrors],
  },
  deleteVm: {
    http: "DELETE /v1/vms/{vm}",
    tag: "vms",
    summary: "Delete a VM",
    scope: "admin",
    path: VmPath,
    answer: { kind: "nothing", status: 204 },
    action: "delete",
    conditional: true,
    errors: ["VM_PROTECTED"],
  },

  startVm: {
    ...verb("start", "Start a VM", NoBody),
    errors: [
      ...processErrors,
      ...buildErrors,
      ...noNetwork,
      "VM_START_FAILED",
      "VM_TEMPLATE",
      "HOST_SHUTTING_DOWN",
    ],
  },
  shutdownVm: verb("shutdown", "Press the power button; stop after a time limit", ShutdownBody),
  stopVm: verb("stop", "Stop a VM at once", NoBody),
  resetVm: verb("reset", "Reset a VM", NoBody),
  killVm: verb("kill", "End a VM's process, whatever it is doing", NoBody),
  pauseVm: verb("pause", "Pause a VM", NoBody),
  resumeVm: verb("resume", "Let a paused VM go on", NoBody),

  cloneVm: {
    http: "POST /v1/vms/{vm}/clone",
    tag: "lifecycle",
    summary: "Make another VM of this one, with copies of its disks",
    details:
      "The copy is off, no template and not protected. It is defined when its disks are copied; the original stays off until then.",
    scope: "admin",
    path: VmPath,
    query: OperationQuery,
    body: CloneBody,
    answer: longOperation,
    action: "clone",
    errors: [
      "VM_EXISTS",
      "VM_UUID_EXISTS",
      "CLONE_DISK_MISSING",
      "CLONE_DISK_UNKNOWN",
      "VM_BUSY",
      ...noNetwork,
    ],
  },

  listImages: {
    http: "GET /v1/images",
    tag: "images",
    summary: "List disk images by name, a page at a time",
    scope: "read",
    query: ImageListQuery,
    answer: { kind: "json", status: 200, schema: ImageList },
  },
  createImage: {
    http: "POST /v1/images",
    tag: "images",
    summary: "Make an empty disk image",
    scope: "admin",
    body: CreateImage,
    answer: { ...imageJson, status: 201, location: "/v1/images/{name}" },
    errors: ["STORED_IMAGE_EXISTS", "STORED_IMAGE_UNFIT"],
  },
  getImage: {
    http: "GET /v1/images/{image}",
    tag: "images",
    summary: "Show a disk image",
    scope: "read",
    path: ImagePath,
    answer: imageJson,
    errors: noImage,
  },
  deleteImage: {
    http: "DELETE /v1/images/{image}",
    tag: "images",
    summary: "Delete a disk image that no definition names",
    scope: "admin",
    path: ImagePath,
    answer: { kind: "nothing", status: 204 },
    errors: [...noImage, "STORED_IMAGE_IN_USE"],
  },
  importImage: {
    http: "POST /v1/images/import",
    tag: "images",
    summary: "Copy a file of the host to a disk image",
    details:
      "By reference where the file system can. With `sha256` the file must have that digest. The image appears whole or not at all.",
    scope: "admin",
    query: OperationQuery,
    body: ImportImage,
    answer: longOperation,
    errors: ["STORED_IMAGE_EXISTS", "PATH_OUTSIDE", "PATH_LEADS_OUT"],
  },
  cloneImage: {
    http: "POST /v1/images/{image}/clone",
    tag: "images",
    summary: "Make another disk image of this one, which no VM that is on may be using",
    scope: "admin",
    path: ImagePath,
    query: OperationQuery,
    body: CloneImage,
    answer: longOperation,
    errors: [...noImage, "STORED_IMAGE_EXISTS", "STORED_IMAGE_IN_USE"],
  },
  growImage: {
    http: "POST /v1/images/{image}/grow",
    tag: "images",
    summary: "Make a disk image larger, which no VM that is on may be using",
    scope: "admin",
    path: ImagePath,
    body: GrowImage,
    answer: imageJson,
    errors: [...noImage, "STORED_IMAGE_IN_USE", "STORED_IMAGE_UNFIT"],
  },

  listNetworks: {
    http: "GET /v1/networks",
    tag: "networks",
    summary: "List networks, by name and labels, a page at a time",
    scope: "read",
    query: StoredNetworkQuery,
    answer: { kind: "json", status: 200, schema: StoredNetworkList },
  },
  createNetwork: {
    http: "POST /v1/networks",
    tag: "networks",
    summary: "Define a network",
    scope: "admin",
    query: DryRunQuery,
    body: StoredNetwork,
    answer: { ...networkJson, status: 201, or: 200, location: "/v1/networks/{name}" },
    errors: ["STORED_NETWORK_EXISTS", ...pathErrors],
  },
  getNetwork: {
    http: "GET /v1/networks/{network}",
    tag: "networks",
    summary: "Show a network",
    scope: "read",
    path: StoredNetworkPath,
    answer: networkJson,
    errors: noNetwork,
  },
  replaceNetwork: {
    http: "PUT /v1/networks/{network}",
    tag: "networks",
    summary: "Say what a network should be: make it, or make it so",
    details: "VMs that run keep what they have: it takes effect when each is started next.",
    scope: "admin",
    path: StoredNetworkPath,
    query: DryRunQuery,
    body: StoredNetwork,
    answer: { ...networkJson, or: 201, location: "/v1/networks/{name}" },
    conditional: true,
    errors: [...noNetwork, ...pathErrors],
  },
  changeNetwork: {
    http: "PATCH /v1/networks/{network}",
    tag: "networks",
    summary: "Change a network",
    details: "VMs that run keep what they have: it takes effect when each is started next.",
    scope: "admin",
    path: StoredNetworkPath,
    query: DryRunQuery,
    body: ChangeNetwork,
    answer: networkJson,
    conditional: true,
    errors: [...noNetwork, ...pathErrors],
  },
  deleteNetwork: {
    http: "DELETE /v1/networks/{network}",
    tag: "networks",
    summary: "Delete a network that no definition names",
    scope: "admin",
    path: StoredNetworkPath,
    answer: { kind: "nothing", status: 204 },
    conditional: true,
    errors: [...noNetwork, "STORED_NETWORK_IN_USE"],
  },

  listMedia: {
    http: "GET /v1/vms/{vm}/media",
    tag: "media",
    summary: "What lies in a VM's CD drives",
    scope: "read",
    path: VmPath,
    answer: { kind: "json", status: 200, schema: DriveList },
    errors: processErrors,
  },
  changeMedium: {
    http: "PUT /v1/vms/{vm}/media/{device}",
    tag: "media",
    summary: "Eject what lies in a CD drive, and insert another disc",
    details:
      "Without a path the drive is emptied. A guest that has locked the drive is asked to let go, and " +
      "the change is refused; `force` takes the disc anyway. The definition follows.",
    scope: "admin",
    path: MediaPath,
    body: MediumChange,
    answer: { kind: "json", status: 200, schema: DriveList },
    action: "change",
    errors: [
      ...processErrors,
      "DRIVE_NOT_FOUND",
      "MEDIUM_LOCKED",
      "IMAGE_UNUSABLE",
      "IMAGE_LOCKED",
    ],
  },

  getVmStatistics: {
    http: "GET /v1/vms/{vm}/statistics",
    tag: "inspection",
    summary: "A running VM's counters",
    scope: "read",
    path: VmPath,
    answer: { kind: "json", status: 200, schema: Statistics },
    errors: ["VM_STATE_FORBIDS", ...processErrors],
  },
  getVcpuRegisters: {
    http: "GET /v1/vms/{vm}/vcpus/{vcpu}",
    tag: "inspection",
    summary: "The registers of a vCPU of a paused VM",
    scope: "operate",
    path: VcpuPath,
    answer: { kind: "json", status: 200, schema: VcpuRegisters },
    errors: ["VM_STATE_FORBIDS", "VCPU_NOT_FOUND", ...processErrors],
  },

  listNetworkCards: {
    http: "GET /v1/vms/{vm}/networks",
    tag: "cards",
    summary: "A running VM's network cards and their counters",
    scope: "read",
    path: VmPath,
    answer: { kind: "json", status: 200, schema: NetworkList },
    errors: ["VM_STATE_FORBIDS", ...processErrors],
  },
  setLink: {
    http: "PUT /v1/vms/{vm}/networks/{slot}/link",
    tag: "cards",
    summary: "Plug a network cable in or out",
    scope: "operate",
    path: NetworkPath,
    body: LinkBody,
    answer: { kind: "json", status: 200, schema: NetworkView },
    errors: ["VM_STATE_FORBIDS", "NETWORK_NOT_FOUND", ...processErrors],
  },
  startCapture: {
    http: "PUT /v1/vms/{vm}/networks/{slot}/capture",
    tag: "cards",
    summary: "Record the frames of a network card into a new pcapng file of the host",
    scope: "admin",
    path: NetworkPath,
    body: CaptureRequest,
    answer: { kind: "json", status: 200, schema: NetworkView },
    errors: ["VM_STATE_FORBIDS", "NETWORK_NOT_FOUND", "CAPTURE_FAILED", ...processErrors],
  },
  stopCapture: {
    http: "DELETE /v1/vms/{vm}/networks/{slot}/capture",
    tag: "cards",
    summary: "End a capture",
    scope: "admin",
    path: NetworkPath,
    answer: { kind: "json", status: 200, schema: NetworkView },
    errors: ["VM_STATE_FORBIDS", "NETWORK_NOT_FOUND", ...processErrors],
  },

  readConsole: {
    http: "GET /v1/vms/{vm}/console",
    tag: "console",
    summary: "What the guest has printed, by byte offset",
    scope: "read",
    path: VmPath,
    query: ConsoleQuery,
    answer: {
      kind: "raw",
      status: 200,
      mediaType: "application/octet-stream",
      headers: {
        offset: { name: "x-console-offset", schema: count },
        first: { name: "x-console-first", schema: count },
        end: { name: "x-console-end", schema: count },
      },
    },
  },
  streamConsole: {
    http: "GET /v1/vms/{vm}/console/stream",
    tag: "console",
    summary: "The console both ways, over a WebSocket",
    details:
      'Binary frames are output and, the other way, what is typed. Text frames are JSON: notices, and from the client the size of its terminal, `{"kind":"resize","columns":120,"rows":40}`, of which a virtio console tells the guest; a UART cannot.',
    scope: "operate",
    path: VmPath,
    query: StreamQuery,
    answer: { kind: "websocket", status: 101 },
    errors: ["CONSOLE_NONE"],
  },

  listTokens: {
    http: "GET /v1/tokens",
    tag: "tokens",
    summary: "List the tokens, without their secrets",
    scope: "admin",
    answer: { kind: "json", status: 200, schema: TokenList },
  },
  createToken: {
    http: "POST /v1/tokens",
    tag: "tokens",
    summary: "Make a token, whose secret is told once",
    scope: "admin",
    body: CreateToken,
    answer: { kind: "json", status: 201, schema: NewToken },
    errors: ["TOKEN_EXISTS"],
    secret: true,
  },
  deleteToken: {
    http: "DELETE /v1/tokens/{token}",
    tag: "tokens",
    summary: "Revoke a token",
    scope: "admin",
    path: TokenPath,
    answer: { kind: "nothing", status: 204 },
    errors: ["TOKEN_NOT_FOUND"],
  },

  getOpenApi: {
    http: "GET /v1/openapi.json",
    tag: "docs",
    summary: "The OpenAPI 3.1 document",
    scope: "none",
    answer: { kind: "json", status: 200, schema: Type.Object({}, { $id: "OpenApi" }) },
  },
  getDocs: {
    http: "GET /docs",
    tag: "docs",
    summary: "The document as a page",
    scope: "none",
    answer: { kind: "raw", status: 200, mediaType: "text/html; charset=utf-8" },
  },
  getDocsFile: {
    http: "GET /docs/{file}",
    tag: "docs",
    summary: "What the page is made of",
    scope: "none",
    path: closed({ file: literals(docsFiles) }),
    answer: { kind: "raw", status: 200, mediaType: "text/javascript; charset=utf-8" },
  },

  watchEvents: {
    http: "GET /v1/events",
    tag: "events",
    summary: "Events from now on, or from one that was seen before",
    details:
      "Each has a sequence number. Events are kept for a while, over restarts of the daemon too: with Last-Event-ID, or `after`, none is missed. Where some are no longer kept, an event `events.lost` stands for them.",
    scope: "read",
    query: EventFilter,
    answer: { kind: "events", status: 200, schema: Event },
    errors: ["VM_NOT_FOUND"],
  },

  listOperations: {
    http: "GET /v1/operations",
    tag: "operations",
    summary: "List long work, the newest first",
    scope: "read",
    answer: { kind: "json", status: 200, schema: LongOperationList },
  },
  getOperation: {
    http: "GET /v1/operations/{operation}",
    tag: "operations",
    summary: "How far an operation is; with `timeout`, when it has ended",
    scope: "read",
    path: OperationPath,
    query: OperationQuery,
    answer: { kind: "json", status: 200, schema: LongOperation },
    errors: ["OPERATION_NOT_FOUND"],
  },
  cancelOperation: {
    http: "POST /v1/operations/{operation}/cancel",
    tag: "operations",
    summary: "Give up an operation, and undo what it has done",
    scope: "admin",
    path: OperationPath,
    body: NoBody,
    answer: { kind: "json", status: 200, schema: LongOperation },
    errors: ["OPERATION_NOT_FOUND", "OPERATION_ENDED"],
  },
  shutDownHost: {
    http: "POST /v1/host/shutdown",
    tag: "host",
    summary: "Shut all guests down, since the host shuts down",
    details:
      "In the order opposite to that of starting; what is on at the end of the limit is stopped. Nothing is started meanwhile. What each VM should be stays as it is: those that start with the host come back.",
    scope: "admin",
    query: OperationQuery,
    body: HostShutdownBody,
    answer: longOperation,
    errors: ["HOST_SHUTTING_DOWN"],
  },

  getMetrics: {
    http: "GET /metrics",
    tag: "health",
    summary: "Counters of the daemon and of every VM, as Prometheus reads them",
    scope: "read",
    answer: text("text/plain; version=0.0.4; charset=utf-8"),
  },
  getHealth: {
    http: "GET /healthz",
    tag: "health",
    summary: "The daemon answers, and its database can be written to",
    scope: "none",
    answer: text("text/plain; charset=utf-8"),
    errors: ["DATABASE_BROKEN"],
  },
  getReadiness: {
    http: "GET /readyz",
    tag: "health",
    summary: "The daemon takes requests to start VMs",
    scope: "none",
    answer: text("text/plain; charset=utf-8"),
    errors: ["HOST_SHUTTING_DOWN"],
  },
} as const satisfies Record<string, OperationSpec>;

export type Operations = typeof operations;
export type OperationId = keyof Operations;

export const isOperation = (name: string): name is OperationId => Object.hasOwn(operations, name);

/** The row, as any row. */
export const specOf = (id: OperationId): OperationSpec => operations[id];

export const operationIds = Object.keys(operations) as readonly OperationId[];

export function methodAndPath({ http }: OperationSpec): readonly [HttpMethod, string] {
  const [method, path] = http.split(" ");
  return [method as HttpMethod, path ?? "/"];
}

type Part<Id extends OperationId, Name extends "path" | "query" | "body"> =
  Operations[Id] extends Readonly<Record<Name, infer S extends TSchema>> ? Static<S> : undefined;

export type PathOf<Id extends OperationId> = Part<Id, "path">;
export type QueryOf<Id extends OperationId> = Part<Id, "query">;
export type BodyOf<Id extends OperationId> = Part<Id, "body">;

/** Rows by what they answer with. */
export type OperationOf<Kind extends AnswerSpec["kind"]> = {
  [Id in OperationId]: Operations[Id]["answer"]["kind"] extends Kind ? Id : never;
}[OperationId];

/** The JSON that an operation answers with. */
export type ResultOf<Id extends OperationId> = Operations[Id]["answer"] extends {
  readonly kind: "json" | "events";
  readonly schema: infer S extends TSchema;
}
  ? Static<S>
  : undefined;

export const IfMatchHeader = Type.String({
  pattern: '^("[0-9]{1,15}"|\\*)$',
  description: 'the generation in quotes, as ETag gives it ("3"), or *',
});
export const IdempotencyKeyHeader = Type.String({
  pattern: "^[\\x21-\\x7e]{1,255}$",
  description: "1 to 255 visible ASCII characters",
});

/** A POST or PATCH may carry an Idempotency-Key: GET, PUT and DELETE need none. */
export const takesKey = (spec: OperationSpec): boolean =>
  /^(POST|PATCH) /.test(spec.http) && spec.answer.kind === "json" && spec.secret !== true;

/** In some state; a stop, say, is taken in every one. */
const isRefusable = (action: VmAction): boolean =>
  vmActions[action].do.length + vmActions[action].already.length < vmPowers.length;

/** All codes that an operation can be refused with. */
export function errorsOf(spec: OperationSpec): readonly ErrorCode[] {
  const ofVm = spec.path !== undefined && "vm" in spec.path.properties;
  const codes: (ErrorCode | false)[] = [
    ...(spec.errors ?? []),
    "REQUEST_INVALID",
    spec.body !== undefined && "REQUEST_NOT_JSON",
    spec.body !== undefined && "MEDIA_TYPE",
    spec.body !== undefined && "REQUEST_TOO_LARGE",
    "HOST_NOT_ALLOWED",
    spec.scope !== "none" && "UNAUTHORIZED",
    spec.scope !== "none" && "RATE_LIMITED",
    (spec.scope === "operate" || spec.scope === "admin") && "FORBIDDEN",
    ofVm && "VM_NOT_FOUND",
    spec.action !== undefined && isRefusable(spec.action) && "VM_STATE_FORBIDS",
    spec.conditional === true && (ofVm ? "VM_CHANGED" : "STORED_NETWORK_CHANGED"),
    takesKey(spec) && "IDEMPOTENCY_KEY_REUSED",
    takesKey(spec) && "IDEMPOTENCY_KEY_BUSY",
    spec.answer.kind === "websocket" && "UPGRADE_REQUIRED",
    "INTERNAL",
  ];
  return [...new Set(codes.filter((code) => code !== false))].sort();
}
