// A page of a list: what a query asks for, in the order of names. The cursor is the last name of the
// page before, so that what is made or deleted meanwhile disturbs nothing.
import type { VmList, VmListQuery, VmView } from "../../api-schema/daemon-api.js";

interface Viewable<V> {
  readonly name: string;
  view(): V;
}

type Wanted<V> = (view: V) => boolean;

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

interface Query {
  readonly name?: string;
  readonly labels?: string;
  readonly limit: number;
  readonly cursor?: string;
}

interface Page<V> {
  readonly items: V[];
  readonly next?: string;
}

/** `list`: in the order of names. */
export function pageOf<V>(list: readonly Viewable<V>[], query: Query, wanted: Wanted<V>): Page<V> {
  const after = query.cursor && Buffer.from(query.cursor, "base64url").toString("utf8");
  const items: V[] = [];
  let last = "";
  for (const one of list) {
    if (after !== undefined && one.name <= after) continue;
    if (query.name !== undefined && !matches(query.name, one.name)) continue;
    const view = one.view();
    if (!wanted(view)) continue;
    if (items.length === query.limit)
      return { items, next: Buffer.from(last).toString("base64url") };
    items.push(view);
    last = one.name;
  }
  return { items };
}

export function pageOfVms(list: readonly Viewable<VmView>[], query: VmListQuery): VmList {
  const states = query.state === undefined ? undefined : new Set(query.state.split(","));
  const labelled = labelFilter(query.labels);
  const { items, next } = pageOf(
    list,
    query,
    ({ status, definition }) => states?.has(status.state) !== false && labelled(definition.labels),
  );
  return { vms: items, ...(next !== undefined && { next }) };
}

type LabelValues = Readonly<Record<string, string>>;

/** All of `KEY=VALUE` and `KEY` with commas between; undefined lets everything through. */
export function labelFilter(labels: string | undefined): Wanted<LabelValues> {
  const wanted = (labels?.split(",") ?? []).map((label) => {
    const at = label.indexOf("=");
    return at < 0 ? { key: label } : { key: label.slice(0, at), value: label.slice(at + 1) };
  });
  return (given) =>
    wanted.every(({ key, value }) => {
      const has = Object.hasOwn(given, key) ? given[key] : undefined;
      return value === undefined ? has !== undefined : has === value;
    });
}
