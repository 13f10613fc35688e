// What happens after a VM has ended by itself: pure functions of its policy and its past. A
// guest's reboot never comes here: it is the same run of the same process.
import type { Restart } from "../../api-schema/index.js";

export interface End {
  /** Milliseconds since 1970. */
  readonly at: number;
  /** How long the run was; 0 where it came to none. */
  readonly ranMs: number;
  /** Not as the guest or a client wished. */
  readonly failed: boolean;
}

export type AfterEnd =
  | { readonly kind: "leave"; readonly ends: readonly number[] }
  | { readonly kind: "restart"; readonly at: number; readonly ends: readonly number[] }
  | { readonly kind: "crash loop"; readonly ends: readonly number[] };

/** `ends`: those before this one, since a client's last start. */
export function afterEnd(policy: Restart, ends: readonly number[], end: End): AfterEnd {
  const windowMs = policy.window * 1000;
  const kept = end.ranMs > windowMs ? [] : ends.filter((at) => at > end.at - windowMs);
  const now = [...kept, end.at];
  const wanted = policy.policy === "always" || (policy.policy === "on-failure" && end.failed);
  if (!wanted) return { kind: "leave", ends: now };
  if (now.length > policy.limit) return { kind: "crash loop", ends: now };
  return { kind: "restart", at: end.at + backoffMs(policy, now.length), ends: now };
}

/** Of the n-th end within the window, from 1. */
export const backoffMs = ({ delay, maxDelay }: Restart, n: number): number =>
  Math.round(Math.min(delay * 2 ** Math.min(n - 1, 40), Math.max(delay, maxDelay)) * 1000);
