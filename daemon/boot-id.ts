// Which boot of the host this is: how a daemon that starts knows whether its VMs ended with the
// host or should still be there.
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";

/** The same from boot to shutdown, and never again; undefined where the host does not say. */
export function bootId(): string | undefined {
  try {
    // random(4), "boot_id"; sysctl(3) kern.bootsessionuuid.
    return process.platform === "linux"
      ? readFileSync("/proc/sys/kernel/random/boot_id", "latin1").trim()
      : execFileSync("/usr/sbin/sysctl", ["-n", "kern.bootsessionuuid"], {
          encoding: "latin1",
        }).trim();
  } catch {
    return undefined;
  }
}
