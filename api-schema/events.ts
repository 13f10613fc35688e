// What the daemon tells those who watch: one numbered line of events, kept in its database for a
// while, so that a watcher that was away goes on where it was.
import { type Static, Type } from "@sinclair/typebox";
import { VmName, VmUuid } from "./definition.js";
import { closed, count, literals } from "./shape.js";

export const eventKinds = [
  /** `data`: the generation of the definition. */
  "vm.created",
  "vm.changed",
  "vm.deleted",
  /** `data`: the status (VmStatusView) from now on. */
  "vm.status",
  /** `data`: the power wished for. */
  "vm.power",
  /** `data`: the network's name, and its generation. */
  "network.created",
  "network.changed",
  "network.deleted",
  /** `data`: the operation (LongOperation) as it is from now on. */
  "operation",
  /** `data`: what the daemon found when it started: VMs taken back, the host's boot. */
  "daemon.started",
  "daemon.stopping",
  /** `data`: what is wrong with a row of the registry or a folder of a VM. */
  "daemon.warning",
  /** In place of events that are no longer kept; `data`: from and to which. Never stored. */
  "events.lost",
] as const;

export const EventKind = literals(eventKinds);

export const Event = closed(
  {
    /** Grows by one or more from event to event, over restarts of the daemon too. */
    sequence: count,
    /** RFC 3339, UTC. */
    time: Type.String(),
    kind: EventKind,
    /** Which VM it is about. */
    vm: Type.Optional(closed({ uuid: VmUuid, name: VmName })),
    data: Type.Record(Type.String(), Type.Unknown()),
  },
  { $id: "Event" },
);

/** What a watcher wants to hear. */
export const EventFilter = closed({
  /** Go on after this event; from now on where absent. Last-Event-ID says the same. */
  after: Type.Optional(count),
  /** Name or UUID. */
  vm: Type.Optional(Type.String({ minLength: 1, maxLength: 63 })),
  /** Kinds with commas between; `vm` stands for all that begin with `vm.`. */
  kinds: Type.Optional(
    Type.String({
      pattern: "^[a-z]+(\\.[a-z]+)?(,[a-z]+(\\.[a-z]+)?)*$",
      maxLength: 256,
      description: `kinds of events with commas between, of ${eventKinds.join(", ")}`,
    }),
  ),
});

export type EventKind = Static<typeof EventKind>;
export type Event = Static<typeof Event>;
export type EventFilter = Static<typeof EventFilter>;
