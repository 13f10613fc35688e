// Where systemd runs the host, each VM's process gets a transient scope of its own: what stops,
// restarts or limits the daemon's unit then leaves it alone, `systemctl status` and accounting show VMs
// one by one, and at shutdown they go after xhyved-guests.service has shut the guests down.
// org.freedesktop.systemd1(5), "StartTransientUnit"; systemd.scope(5); systemd.kill(5).
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";

const MANAGER = [
  "org.freedesktop.systemd1",
  "/org/freedesktop/systemd1",
  "org.freedesktop.systemd1.Manager",
] as const;
const TIMEOUT_MS = 20_000;

export interface ScopeOf {
  readonly pid: number;
  readonly uuid: string;
  readonly name: string;
}

/** sd_booted(3). */
export const systemdRuns = (): boolean => existsSync("/run/systemd/system");

/** With the pid: the scope of the run before may not be gone yet. */
export const scopeName = ({ uuid, pid }: ScopeOf): string => `xhyved-${uuid}-${pid}.scope`;

/** Properties with their D-Bus types. SIGTERM, which ends a scope, presses the guest's power button. */
const propertiesOf = ({ pid, name }: ScopeOf): readonly (readonly string[])[] => [
  ["Description", "s", `Virtual machine ${name}`],
  ["PIDs", "au", "1", String(pid)],
  ["Before", "as", "1", "xhyved-guests.service"],
  ["CollectMode", "s", "inactive-or-failed"],
];

/** What busctl(1) is called with. */
export function scopeCall(of: ScopeOf, user: boolean): string[] {
  const properties = propertiesOf(of);
  return [
    ...(user ? ["--user"] : []),
    ...["call", ...MANAGER, "StartTransientUnit", "ssa(sv)a(sa(sv))"],
    ...[scopeName(of), "fail"],
    ...[String(properties.length), ...properties.flat()],
    "0", // no auxiliary units
  ];
}

/** Resolves with why it has none; a VM goes on without. */
export function moveToScope(of: ScopeOf): Promise<string | undefined> {
  const call = scopeCall(of, process.getuid?.() !== 0);
  return new Promise((resolve) => {
    const done = (error: Error | null, _: string, said: string): void =>
      resolve(error === null ? undefined : said.trim() || error.message);
    execFile("busctl", call, { timeout: TIMEOUT_MS }, done);
  });
}
