// How a VM process is started and what it leaves behind. `node dist/vmm/process/main.js FOLDER`:
// FOLDER is the VM's runtime folder, made by who starts it (mode 0700) with launch.json in it.
// Standard streams are files. The process takes `lock` first (flock, held while it lives; its pid
// in decimal inside), listens on `vm.sock` (what is said:
// vm-rpc.ts) and on `fd.sock` (descriptors for it), and keeps `status.json` (written over in place, always
// whole JSON, synced to disk whenever the state is a last one), so that a daemon that was dead learns what happened.
import { type Static, Type } from "@sinclair/typebox";
import { HostPath, VmDefinition } from "./definition.js";
import { closed, literals } from "./shape.js";
import { VmStatus } from "./vm-rpc.js";

export const runtimeFiles = {
  launch: "launch.json",
  lock: "lock",
  socket: "vm.sock",
  files: "fd.sock",
  status: "status.json",
  console: "console.log",
} as const;

/** A user of the host with a group, by their numbers; never root. */
export const Account = closed({
  uid: Type.Integer({ minimum: 1, maximum: 2 ** 32 - 2 }),
  gid: Type.Integer({ minimum: 1, maximum: 2 ** 32 - 2 }),
});
export type Account = Static<typeof Account>;

export const LaunchFile = Type.Object(
  {
    /** Made by who starts the process; given back by hello and status.json. */
    nonce: Type.String({ minLength: 1, maxLength: 128 }),
    definition: VmDefinition,
    /** Start at once; else wait for the method. */
    start: Type.Boolean({ default: true }),
    /** What a guest's reset does. */
    onReset: literals(["restart", "exit"], "restart"),
    /** Where console output goes, and how much of it is kept. */
    console: Type.Object(
      {
        file: Type.Optional(HostPath),
        limit: Type.Integer({ minimum: 65536, maximum: 2 ** 32, default: 16 * 2 ** 20 }),
      },
      { additionalProperties: false, default: {} },
    ),
    /** Go on from this folder of saveState instead of booting. */
    restore: Type.Optional(HostPath),
    /** Whom the process becomes, for good, when its machine stands. Only root can. */
    user: Type.Optional(Account),
    /** Give up what only the building of the machine needs: seccomp, a sandbox profile. */
    confine: Type.Boolean({ default: true }),
    /** The definition's files are opened beneath these, through no link that leads out; absent: by name. */
    folders: Type.Optional(Type.Array(HostPath)),
    /** Seconds the socket stays open after the last state, for clients to read it. */
    linger: Type.Number({ minimum: 0, maximum: 60, default: 0 }),
  },
  { additionalProperties: false, $id: "LaunchFile" },
);

export const StatusFile = Type.Object(
  {
    nonce: Type.String(),
    pid: Type.Integer({ minimum: 1 }),
    /** Milliseconds since 1970, the host's clock. */
    time: Type.Integer(),
    status: VmStatus,
    /** What kept the VM from being built, from the table of errors.ts: `status` has it in words. */
    error: Type.Optional(
      closed({
        code: Type.String(),
        details: Type.Array(Type.Union([Type.String(), Type.Number()])),
      }),
    ),
  },
  { additionalProperties: false, $id: "StatusFile" },
);

export type LaunchFile = Static<typeof LaunchFile>;
export type StatusFile = Static<typeof StatusFile>;
