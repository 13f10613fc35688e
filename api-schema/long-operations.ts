// Work that takes longer than a request should: it has a name of its own, can be looked at,
// waited for and cancelled, and goes on (or ends, saying so) when the daemon is restarted.
import { type Static, Type } from "@sinclair/typebox";
import { ChangeVm } from "./daemon-api.js";
import { HostPath, VmName, VmUuid } from "./definition.js";
import { DriveName } from "./media.js";
import { closed, count, literals } from "./shape.js";

export const OperationState = literals(["running", "succeeded", "failed", "cancelled"]);

export const LongOperation = closed(
  {
    id: Type.String(),
    /** What it does: `vm.clone`, `image.import`, `host.shutdown`, … */
    kind: Type.String(),
    state: OperationState,
    /** The VM it is about, by UUID. */
    vm: Type.Optional(Type.String()),
    progress: closed({ done: count, total: count, unit: literals(["bytes", "vms", "steps"]) }),
    /** RFC 3339, UTC. */
    created: Type.String(),
    ended: Type.Optional(Type.String()),
    /** Of what it made, where it succeeded. */
    result: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
    /** Why it failed, from the table of errors. */
    error: Type.Optional(closed({ code: Type.String(), detail: Type.String() })),
  },
  { $id: "Operation" },
);

export const OperationPath = closed({
  operation: Type.String({ minLength: 1, maxLength: 64, pattern: "^[0-9a-f-]+$" }),
});

/** How long an answer may take to tell of the end. */
export const OperationQuery = closed({
  /** Seconds to wait for its end; 0: as it is now. */
  timeout: Type.Integer({ minimum: 0, maximum: 3600, default: 0 }),
});

export const HostShutdownBody = closed({
  /** Seconds for all guests together; what is on then is stopped. */
  timeout: Type.Integer({ minimum: 0, maximum: 86_400, default: 120 }),
});

export const CloneBody = closed(
  {
    name: VmName,
    uuid: Type.Optional(VmUuid),
    /** By slot (and -PORT), where the copy of each disk that is written to goes; others are shared. */
    disks: Type.Record(DriveName, HostPath, { default: {}, maxProperties: 256 }),
    /** What else is another than in the original: as a PATCH. */
    changes: Type.Optional(ChangeVm),
  },
  { $id: "CloneVm" },
);

export const LongOperationList = closed(
  { operations: Type.Array(LongOperation) },
  { $id: "OperationList" },
);

export type OperationState = Static<typeof OperationState>;
export type LongOperation = Static<typeof LongOperation>;
export type CloneBody = Static<typeof CloneBody>;
