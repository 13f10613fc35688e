// What the daemon does for a VM beside running it: the power that is wished for, restarts,
// starting with the host, and when a guest counts as ready. No VM process looks at any of it.
import { type Static, Type } from "@sinclair/typebox";
import { closed, literals } from "./shape.js";

/** What a VM should be, as opposed to what it is at the moment. */
export const Power = literals(["running", "paused", "stopped"]);

export const Restart = closed(
  {
    /** After which ends that no client asked for: none, failures, or a guest's power-off too. */
    policy: literals(["never", "on-failure", "always"], "never"),
    /** Seconds before the first restart; doubled with each further one within the window. */
    delay: Type.Number({ minimum: 0, maximum: 3600, default: 1 }),
    /** Seconds that the doubling ends at. */
    maxDelay: Type.Number({ minimum: 0, maximum: 86_400, default: 300 }),
    /** More ends than this within the window are a crash loop: it stays off. */
    limit: Type.Integer({ minimum: 1, maximum: 1000, default: 5 }),
    /** Seconds; a run that was longer than this begins the count anew. */
    window: Type.Number({ minimum: 1, maximum: 604_800, default: 600 }),
  },
  { default: {} },
);

export const Autostart = closed(
  {
    /** When the host has booted: never, always, or where the VM was not stopped by a client. */
    policy: literals(["never", "always", "unless-stopped"], "never"),
    /** Lower ones first; those with the same order together. The host's shutdown goes backwards. */
    order: Type.Integer({ minimum: 0, maximum: 9999, default: 0 }),
    /** Seconds between its start and those of a higher order. */
    delay: Type.Number({ minimum: 0, maximum: 3600, default: 0 }),
  },
  { default: {} },
);

const probe = {
  /** Seconds between two looks; 1 where absent. */
  interval: Type.Optional(Type.Number({ minimum: 0.1, maximum: 3600 })),
};

/** How a guest is found to be ready; of several, all must hold. */
export const ReadinessProbe = Type.Union([
  /** Something accepts connections there; what the guest's address is, its network knows. */
  closed({
    kind: Type.Literal("tcp"),
    host: Type.String({ minLength: 1, maxLength: 253, pattern: "^[A-Za-z0-9.:_-]+$" }),
    port: Type.Integer({ minimum: 1, maximum: 65_535 }),
    ...probe,
  }),
  /** The console has printed this since the start or the last reset. */
  closed({
    kind: Type.Literal("serial"),
    text: Type.String({ minLength: 1, maxLength: 256 }),
    ...probe,
  }),
  /** Something in the guest accepts on this port of its virtio socket device. */
  closed({
    kind: Type.Literal("vsock"),
    port: Type.Integer({ minimum: 0, maximum: 2 ** 32 - 2 }),
    ...probe,
  }),
]);

export const Readiness = Type.Array(ReadinessProbe, { maxItems: 8, default: [] });

/** The definition's members for all this: what may be changed while the VM runs, but for `template`. */
export const supervision = {
  restart: Restart,
  autostart: Autostart,
  readiness: Readiness,
  /** It cannot be deleted. */
  protected: Type.Boolean({ default: false }),
  /** It is cloned and never started. */
  template: Type.Boolean({ default: false }),
};

export type Power = Static<typeof Power>;
export type Restart = Static<typeof Restart>;
export type Autostart = Static<typeof Autostart>;
export type ReadinessProbe = Static<typeof ReadinessProbe>;
