// Whom VM processes become when their machine stands, where the daemon may make them so: a user who
// owns nothing and runs nothing else.
import { execFileSync } from "node:child_process";
import { VmError } from "../api-schema/index.js";
import type { Account } from "../api-schema/vm-process.js";

/** Made by `xhyved install`; taken where the host has it. */
export const VM_USER = "xhyved-vm";

const NOBODY_ELSE = "root";

/** Names come from wherever the host keeps them: id(1) asks as every program of the C library. */
function accountOf(name: string): Account | undefined {
  const ask = (what: string): number =>
    Number(execFileSync("id", [what, "--", name], { stdio: ["ignore", "pipe", "ignore"] }));
  try {
    return { uid: ask("-u"), gid: ask("-g") };
  } catch {
    return undefined;
  }
}

const refuse = (why: string): VmError => new VmError("REQUEST_INVALID", ["--vm-user", why]);

/**
 * undefined: they stay who started them. Throws REQUEST_INVALID where `wanted` is not to be had; what
 * was not asked for is taken where it can be.
 */
export function vmUser(wanted: string | undefined): Account | undefined {
  const able = process.platform === "linux" && process.getuid?.() === 0;
  if (wanted === NOBODY_ELSE || (wanted === undefined && !able)) return undefined;
  if (!able) throw refuse("only root on Linux can start VMs as another user");
  const account = accountOf(wanted ?? VM_USER);
  if (wanted === undefined) return account;
  if (account === undefined) throw refuse(`there is no user ${wanted}`);
  if (account.uid === 0) throw refuse(`${wanted} is root itself`);
  return account;
}
