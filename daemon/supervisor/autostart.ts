// What starts when the host has booted, and in which order: lower orders first, those of one order
// together. The host's shutdown goes the other way. Pure.
import type { Autostart, Power } from "../../api-schema/index.js";

export interface Startable {
  readonly name: string;
  readonly power: Power;
  readonly autostart: Autostart;
}

export interface Wave<T> {
  readonly order: number;
  readonly members: readonly T[];
  /** Seconds before the next wave: the longest that a member asks for. */
  readonly delay: number;
}

export const startsAtBoot = ({ power, autostart }: Startable): boolean =>
  autostart.policy === "always" || (autostart.policy === "unless-stopped" && power !== "stopped");

/** In the order of starting; within a wave by name. */
export function wavesOf<T extends Startable>(vms: readonly T[]): Wave<T>[] {
  const orders = [...new Set(vms.map(({ autostart }) => autostart.order))].sort((a, b) => a - b);
  return orders.map((order) => {
    const members = vms
      .filter(({ autostart }) => autostart.order === order)
      .sort((a, b) => (a.name < b.name ? -1 : 1));
    return { order, members, delay: Math.max(...members.map((one) => one.autostart.delay)) };
  });
}
