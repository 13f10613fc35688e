// What the daemon (or any client of the socket) and a VM process say to each other: JSON-RPC 2.0,
// one object a line, LF at the end, at most MAX_LINE bytes. Byte strings are base64. Every method
// is here with its parameters and its answer; an unknown field is refused.
import { type Static, type TObject, type TSchema, Type } from "@sinclair/typebox";
import { VmName, VmUuid } from "./definition.js";
import { DriveList, DriveName, MediumChange } from "./media.js";
import { CaptureRequest, NetworkView } from "./network.js";
import { closed, count, literals, PciSlot } from "./shape.js";

/**
 * 1: the first release. 2: the process answers a client of either protocol in its own; statistics
 * of devices; the nonce among its arguments. 3: files that are opened for it while it runs are handed
 * over as descriptors. What is new in a protocol is optional in its answers,
 * so that a process of the release before can be governed until its VM ends.
 */
export const VM_PROTOCOL = 3;
/** The first that takes descriptors. */
export const PROTOCOL_WITH_FILES = 3;
/** The oldest that is still understood: of the release before this one. */
export const MIN_VM_PROTOCOL = 1;
export const MAX_LINE = 1024 * 1024;
/** sockaddr_un holds 104 bytes on macOS (108 on Linux) with the final NUL. */
export const MAX_SOCKET_PATH = 103;

const none = closed({});

/**
 * The file that the method names has been opened by who asks: its descriptor was sent over `fd.sock`
 * (SCM_RIGHTS) with this text, on a connection of its own, before the method was called.
 */
const files = Type.Optional(Type.String({ minLength: 1, maxLength: 64 }));

/**
 * created: assembled, nothing ran. starting: images are being placed. stopping: the vCPUs are
 * being ended. stopped: ended as the guest or a client wished; failed: not so.
 */
export const VmState = literals([
  "created",
  "starting",
  "running",
  "paused",
  "stopping",
  "stopped",
  "failed",
]);

export const StopReason = literals([
  "guest power-off",
  "guest reset",
  "guest halt",
  "guest triple fault",
  "guest debug exit",
  "unhandled I/O",
  "stop requested",
  "shutdown time limit",
  "start failed",
  "internal error",
  // Only the daemon finds these out.
  "killed by signal",
  "host restart",
]);

/** What ended the VM, or last changed it; `exitStatus` as bin/xhyve's own. */
export const VmStatus = closed({
  state: VmState,
  /** Grows by one with every change. */
  generation: count,
  reason: Type.Optional(StopReason),
  exitStatus: Type.Optional(Type.Integer({ minimum: 0, maximum: 255 })),
  /** Why, in words, where there is more to say than the reason. */
  detail: Type.Optional(Type.String()),
  /** Disks whose writes wait for room on the host; they go on by themselves. */
  fullDisks: Type.Optional(Type.Array(Type.String())),
  /** Resets that the guest or a client made since the start. */
  resets: count,
});

export const Accelerator = closed({
  name: Type.String(),
  usable: Type.Boolean(),
  reason: Type.String(),
});

const Hello = closed({
  protocol: count,
  version: Type.String(),
  pid: count,
  nonce: Type.String(),
  name: VmName,
  uuid: VmUuid,
});

const StateAnswer = closed({
  status: VmStatus,
  accelerator: Type.Optional(Accelerator),
  /** Guest time in seconds. */
  guestTime: Type.Number(),
  /** The host has been told by the guest that it handles the power button. */
  acpiEnabled: Type.Boolean(),
  consoleEnd: count,
});

/** In characters (VIRTIO 1.2 §5.3.4 has 16 bits for each). */
export const TerminalSize = closed({
  columns: Type.Integer({ minimum: 1, maximum: 65535 }),
  rows: Type.Integer({ minimum: 1, maximum: 65535 }),
});
export type TerminalSize = Static<typeof TerminalSize>;

const Counters = Type.Record(Type.String(), Type.Number());
const Statistics = closed({
  /** Seconds of CPU time of this process, all threads. */
  cpuUser: Type.Number(),
  cpuSystem: Type.Number(),
  guestTime: Type.Number(),
  vcpus: Type.Array(Counters),
  bus: Counters,
  /** Of disks and network cards: operations, bytes, frames, errors. */
  devices: Type.Optional(Type.Record(Type.String(), Counters)),
  /** Bytes of this process in RAM, the guest's memory included. */
  residentMemory: Type.Optional(Type.Number()),
});

const method = <P extends TObject, R extends TSchema>(params: P, result: R) => ({ params, result });

export const vmMethods = {
  /** Says who answers; a client sends its protocol and is refused if that is not understood. */
  hello: method(closed({ protocol: count }), Hello),
  state: method(none, StateAnswer),
  /** From created or paused-after-restore. */
  start: method(none, VmStatus),
  powerButton: method(none, VmStatus),
  /** The power button, then after the definition's (or this) time limit a stop. */
  shutdown: method(
    closed({ timeout: Type.Optional(Type.Integer({ minimum: 0, maximum: 86400 })) }),
    VmStatus,
  ),
  reset: method(none, VmStatus),
  stop: method(none, VmStatus),
  pause: method(none, VmStatus),
  resume: method(none, VmStatus),
  /** From `offset` of all output ever; what has left the history is skipped: see `offset` of the answer. */
  consoleRead: method(
    closed({ offset: count, length: Type.Integer({ minimum: 1, maximum: 256 * 1024 }) }),
    closed({ offset: count, data: Type.String(), start: count, end: count }),
  ),
  consoleWrite: method(
    closed({ data: Type.String({ maxLength: 87384, pattern: "^[A-Za-z0-9+/]*={0,2}$" }) }),
    closed({ accepted: count }),
  ),
  /** The size of the terminal that looks at it; a virtio console tells the guest, a UART cannot. */
  consoleResize: method(TerminalSize, none),
  /** Whether consoleData is sent on this connection. */
  consoleFollow: method(closed({ follow: Type.Boolean() }), closed({ end: count })),
  statistics: method(none, Statistics),
  /** CpuState by field names; only while paused or not running. */
  registers: method(
    closed({ vcpu: count }),
    closed({ version: count, state: Type.Record(Type.String(), Type.Unknown()) }),
  ),
  /** What lies in the CD drives. */
  media: method(none, DriveList),
  /** Ejects, and inserts where there is a path; answers with all drives. */
  changeMedium: method(closed({ ...MediumChange.properties, device: DriveName, files }), DriveList),
  networks: method(none, closed({ networks: Type.Array(NetworkView) })),
  /** Plugs a card's cable in or out. */
  setLink: method(closed({ slot: PciSlot, up: Type.Boolean() }), NetworkView),
  startCapture: method(closed({ slot: PciSlot, ...CaptureRequest.properties, files }), NetworkView),
  /** The last view of it. */
  stopCapture: method(closed({ slot: PciSlot }), NetworkView),
  /** Into a new folder; only while paused. */
  saveState: method(
    closed({ directory: Type.String({ minLength: 1, maxLength: 4095 }) }),
    closed({ bytes: count }),
  ),
} as const;

export const vmNotifications = {
  /** To every connection that has said hello. */
  stateChanged: VmStatus,
  consoleData: closed({ offset: count, data: Type.String() }),
  /** The last line on a connection that did not read fast enough; `offset` is where it may go on. */
  consoleDropped: closed({ offset: count, reason: Type.String() }),
} as const;

export type VmMethod = keyof typeof vmMethods;
export type VmNotification = keyof typeof vmNotifications;
export type VmParams<M extends VmMethod> = Static<(typeof vmMethods)[M]["params"]>;
export type VmResult<M extends VmMethod> = Static<(typeof vmMethods)[M]["result"]>;
export type VmNotice<N extends VmNotification> = Static<(typeof vmNotifications)[N]>;
export type VmState = Static<typeof VmState>;
export type VmStatus = Static<typeof VmStatus>;
export type StopReason = Static<typeof StopReason>;

export const isVmMethod = (name: string): name is VmMethod => Object.hasOwn(vmMethods, name);

/** JSON-RPC 2.0 §5.1; a VmError travels as RPC_FAILED with its code and details in `data`. */
export const RPC_PARSE_ERROR = -32700;
export const RPC_INVALID_REQUEST = -32600;
export const RPC_METHOD_NOT_FOUND = -32601;
export const RPC_INVALID_PARAMS = -32602;
export const RPC_FAILED = -32000;

export interface RpcError {
  readonly code: number;
  readonly message: string;
  readonly data?: { readonly code: string; readonly details: readonly (string | number)[] };
}
