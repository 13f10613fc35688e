// A page of the list of VMs: those that a query asks for, in the order of their names. The cursor is
// the last name of the page before, so that VMs made or deleted meanwhile disturb nothing.
import type { VmList, VmListQuery, VmView } from "../../api-schema/daemon-api.js";

interface Viewable {
  readonly name: string;
  view(): VmView;
}

type Wanted = (vm: VmView) => boolean;

/** `*` stands for any characters. In one pass: each part is looked for after the one before. */
export function matches(pattern: string, name: string): boolean {
  const [first = "", ...rest] = pattern.split("*");
  const last = rest.pop();
  if (last === undefined) return name === first;
  if (!name.startsWith(first)) return false;
  let at = first.length;
  for (const part of rest) {
    const found = name.indexOf(part, at);
    if (found < 0) return false;
    at = found + part.length;
  }
  return name.length - last.length >= at && name.endsWith(last);
}

/** `list`: in the order of names. */
export function page(list: readonly Viewable[], query: VmListQuery): VmList {
  const after = query.cursor && Buffer.from(query.cursor, "base64url").toString("utf8");
  const wanted = [...stateFilter(query.state), ...labelFilters(query.labels)];
  const vms: VmView[] = [];
  for (const one of list) {
    if (after !== undefined && one.name <= after) continue;
    if (query.name !== undefined && !matches(query.name, one.name)) continue;
    const view = one.view();
    if (!wanted.every((want) => want(view))) continue;
    if (vms.length === query.limit) return { vms, next: cursorOf(vms) };
    vms.push(view);
  }
  return { vms };
}

const cursorOf = (vms: readonly VmView[]): string =>
  Buffer.from(vms.at(-1)?.name ?? "").toString("base64url");

function stateFilter(states: string | undefined): Wanted[] {
  if (states === undefined) return [];
  const wanted = new Set(states.split(","));
  return [({ status }) => wanted.has(status.state)];
}

function labelFilters(labels: string | undefined): Wanted[] {
  return (labels?.split(",") ?? []).map((label) => {
    const at = label.indexOf("=");
    const [key, value] = at < 0 ? [label, undefined] : [label.slice(0, at), label.slice(at + 1)];
    return ({ definition }) => {
      const has = Object.hasOwn(definition.labels, key) ? definition.labels[key] : undefined;
      return value === undefined ? has !== undefined : has === value;
    };
  });
}
