// What the daemon and its clients say to each other over HTTP, under /v1. Bodies are JSON; an
// unknown field is refused; failures are RFC 9457 problem details.
import { type Static, Type } from "@sinclair/typebox";
import {
  defaultDevices,
  MAX_DEVICES,
  PciDeviceWish,
  VmDefinition,
  VmName,
  VmUuid,
} from "./definition.js";
import { DriveName } from "./media.js";
import { NetworkView } from "./network.js";
import { closed, count, listing, literals, PciSlot } from "./shape.js";
import { Power } from "./supervision.js";
import { Accelerator, StopReason, TerminalSize, vmMethods } from "./vm-rpc.js";

export const API_PREFIX = "/v1";

/** As a VM process's states; `defined`: never started since it was created or changed. */
export const vmPowers = [
  "defined",
  "starting",
  "running",
  "paused",
  "stopping",
  "stopped",
  "failed",
] as const;
export const VmPower = literals(vmPowers);

/** A whole definition but for what the daemon fills in. */
export const CreateVm = Type.Object(
  {
    ...VmDefinition.properties,
    uuid: Type.Optional(VmUuid),
    devices: Type.Array(PciDeviceWish, { maxItems: MAX_DEVICES, default: defaultDevices }),
    /** `running`: start it at once; `stopped` where absent. */
    power: Type.Optional(Power),
  },
  { additionalProperties: false, $id: "CreateVm" },
);

/** A merge patch (RFC 7396): what is given is merged; null takes a field back to its default. */
export const ChangeVm = Type.Record(Type.String({ maxLength: 64 }), Type.Unknown(), {
  $id: "ChangeVm",
});

export const VmStatusView = closed({
  state: VmPower,
  /** Grows by one with every change of this status. */
  generation: count,
  reason: Type.Optional(StopReason),
  exitStatus: Type.Optional(Type.Integer({ minimum: 0, maximum: 255 })),
  /** The signal that ended the process, where one did and the daemon saw it. */
  signal: Type.Optional(Type.String()),
  detail: Type.Optional(Type.String()),
  fullDisks: Type.Optional(Type.Array(Type.String())),
  resets: count,
  pid: Type.Optional(count),
  /** Of the definition and the power that the daemon last acted on. */
  observedGeneration: count,
  /** All readiness probes hold; absent where there are none or the VM does not run. */
  ready: Type.Optional(Type.Boolean()),
  /** When this run began: RFC 3339, UTC. */
  started: Type.Optional(Type.String()),
  /** Starts that the restart policy made since a client's own. */
  restarts: count,
  /** When the restart policy starts it again: RFC 3339, UTC. */
  nextStart: Type.Optional(Type.String()),
  /** It ended too often within the policy's window: it stays off until a client starts it. */
  crashLoop: Type.Optional(Type.Literal(true)),
});

export const VmView = closed(
  {
    uuid: VmUuid,
    name: VmName,
    /** Grows by one with every change of the definition. */
    generation: count,
    definition: VmDefinition,
    /** What it should be; every verb that a client sends changes it. */
    power: Power,
    status: VmStatusView,
    /** RFC 3339, UTC. */
    created: Type.String(),
    changed: Type.String(),
  },
  { $id: "Vm" },
);

export const VmList = closed(
  {
    vms: Type.Array(VmView),
    /** Where there are more: the `cursor` that goes on. */
    next: Type.Optional(Type.String()),
  },
  { $id: "VmList" },
);

/** Which VMs, in the order of their names. */
export const VmListQuery = closed({
  ...listing,
  state: Type.Optional(
    Type.String({
      pattern: `^(${vmPowers.join("|")})(,(${vmPowers.join("|")}))*$`,
      description: `states with commas between, of ${vmPowers.join(", ")}`,
    }),
  ),
});

/** A look at a VM, which may wait for it to change from what the client has seen. */
export const VmQuery = closed({
  generation: Type.Optional(count),
  statusGeneration: Type.Optional(count),
  timeout: Type.Integer({ minimum: 0, maximum: 3600, default: 60 }),
});

export const VmPath = closed({ vm: Type.String({ minLength: 1, maxLength: 63 }) });
export const VcpuPath = closed({ ...VmPath.properties, vcpu: Type.Integer({ minimum: 0 }) });

/** One network card of a VM, by its PCI slot. */
export const NetworkPath = closed({ ...VmPath.properties, slot: PciSlot });
export const NetworkList = closed({ networks: Type.Array(NetworkView) });
export const LinkBody = closed({ up: Type.Boolean() });

/** What can be waited for: a state, or that the guest is ready. */
export const WaitState = literals([...vmPowers, "ready"]);

export const MediaPath = closed({ ...VmPath.properties, device: DriveName });

/** Every verb may wait for a state before it answers. */
export const WaitQuery = closed({
  wait: Type.Optional(WaitState),
  timeout: Type.Integer({ minimum: 0, maximum: 3600, default: 60 }),
});

export const DryRunQuery = closed({
  /** Say all that would be wrong, also with files of the host, or what the VM would be. */
  dryRun: Type.Optional(Type.Boolean()),
});

export const ShutdownBody = closed({
  /** Seconds from the power button to the stop; the definition's shutdownTimeout where not given. */
  timeout: Type.Optional(Type.Integer({ minimum: 0, maximum: 86400 })),
});

export const ConsoleQuery = closed({
  /** Of all output ever; negative: from the end. */
  offset: Type.Integer({ default: 0 }),
  length: Type.Integer({ minimum: 1, maximum: 256 * 1024, default: 64 * 1024 }),
});

/** The text frames of a console's stream; binary ones are output. Closed by the daemon with 1000
 * after `ended`, 1013 after `dropped`, 1011 when what was typed could not be delivered, 1007 at a text
 * frame that is no ConsoleControl. */
export const ConsoleNotice = Type.Union([
  /** Where the output that follows begins. */
  closed({ kind: Type.Literal("start"), offset: count }),
  /** Output that is no longer, or never was, on the disk. */
  closed({ kind: Type.Literal("gap"), from: count, to: count }),
  /** The VM is off. */
  closed({ kind: Type.Literal("ended") }),
  /** The client was too slow; it may come back with this offset. */
  closed({ kind: Type.Literal("dropped"), offset: count, reason: Type.String() }),
]);

/** The text frames of a client; binary ones are what is typed. */
export const ConsoleControl = Type.Union([
  /** The size of its terminal: of several clients', the last one counts. */
  closed({ kind: Type.Literal("resize"), ...TerminalSize.properties }),
]);

/** The largest frame that a client may send. */
export const MAX_CONSOLE_FRAME = 64 * 1024;

/** `wait` and `timeout` aside, these verbs take nothing. */
export const NoBody = closed({});

export const StreamQuery = closed({ offset: Type.Optional(Type.Integer()) });

export const Statistics = vmMethods.statistics.result;
export const VcpuRegisters = vmMethods.registers.result;

export const HostInformation = closed(
  {
    version: Type.String(),
    hostname: Type.String(),
    platform: Type.String(),
    cpus: count,
    memory: count,
    accelerators: Type.Array(Accelerator),
    /** What `auto` takes, and why. */
    chosen: closed({ name: Type.String(), reason: Type.String() }),
  },
  { $id: "HostInformation" },
);

/** A right: read looks; operate also starts, stops and types at consoles; admin does all. */
export const TokenScope = literals(["read", "operate", "admin"]);

const TokenName = Type.String({
  pattern: "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$",
  description: "1 to 63 letters, digits, dots, underscores and hyphens; first a letter or digit",
});
const token = {
  name: TokenName,
  scope: TokenScope,
  /** RFC 3339, UTC. */
  created: Type.String(),
  expires: Type.Optional(Type.String()),
};

export const CreateToken = closed(
  {
    name: TokenName,
    scope: TokenScope,
    /** Seconds from now; never where absent. */
    expiresIn: Type.Optional(Type.Integer({ minimum: 1, maximum: 10 * 366 * 86400 })),
  },
  { $id: "CreateToken" },
);
export const TokenView = closed(token, { $id: "Token" });
/** `token` is told once. */
export const NewToken = closed({ ...token, token: Type.String() }, { $id: "NewToken" });
export const TokenList = closed({ tokens: Type.Array(TokenView) }, { $id: "TokenList" });
export const TokenPath = closed({ token: TokenName });

export const Problem = Type.Object(
  {
    type: Type.String(),
    title: Type.String(),
    status: Type.Integer(),
    detail: Type.String(),
    /** From the table of api-schema/errors.ts. */
    code: Type.String(),
    requestId: Type.String(),
    /** Every place of the request that is wrong. */
    errors: Type.Optional(
      Type.Array(
        Type.Object({
          /** body, query, path or headers. */
          in: Type.String(),
          /** A JSON Pointer as a fragment, such as #/boot/kernel. */
          pointer: Type.String(),
          /** What would be right. */
          detail: Type.String(),
          code: Type.Optional(Type.String()),
        }),
      ),
    ),
    /** Of the VM that it is about, now. */
    state: Type.Optional(VmPower),
    /** What that VM can be asked in this state. */
    actions: Type.Optional(Type.Array(Type.String())),
  },
  { $id: "Problem" },
);

export const verbs = ["start", "shutdown", "stop", "kill", "reset", "pause", "resume"] as const;
export type Verb = (typeof verbs)[number];

export type CreateVm = Static<typeof CreateVm>;
export type ChangeVm = Static<typeof ChangeVm>;
export type VmListQuery = Static<typeof VmListQuery>;
export type VmList = Static<typeof VmList>;
export type VmView = Static<typeof VmView>;
export type VmStatusView = Static<typeof VmStatusView>;
export type VmPower = Static<typeof VmPower>;
export type WaitState = Static<typeof WaitState>;
export type ConsoleNotice = Static<typeof ConsoleNotice>;
export type ConsoleControl = Static<typeof ConsoleControl>;
export type HostInformation = Static<typeof HostInformation>;
export type Problem = Static<typeof Problem>;
