// What this host is and can do.
import { execFile } from "node:child_process";
import { cpus, hostname, totalmem } from "node:os";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { type HostInformation, VmError } from "../../../api-schema/index.js";
import type { Handlers } from "../call.js";

const run = promisify(execFile);

// The accelerators are asked in a process of their own: the daemon never loads the VM addon.
const PROBE = fileURLToPath(new URL("../../../vmm/process/accelerators.js", import.meta.url));
const PROBE_TIMEOUT_MS = 20_000;

type Probe = Pick<HostInformation, "accelerators" | "chosen">;

const probe = async (): Promise<Probe> => {
  try {
    const { stdout } = await run(process.execPath, [PROBE], { timeout: PROBE_TIMEOUT_MS });
    return JSON.parse(stdout) as Probe;
  } catch (cause) {
    throw new VmError("HOST_PROBE_FAILED", [lastWords(cause)], { cause });
  }
};

/** Of a program that failed: Node's own description of an exception begins with its name. */
function lastWords(error: unknown): string {
  const lines = String((error as { stderr?: unknown }).stderr ?? error).split("\n");
  return lines.find((line) => /^[A-Za-z]*Error: /.test(line)) ?? lines[0] ?? "it ended";
}

export function hostHandlers(version: string): Pick<Handlers, "getHost"> {
  let probed: Promise<Probe> | undefined;
  return {
    getHost: async () => {
      probed ??= probe();
      probed.catch(() => {
        probed = undefined; // a probe that failed is made again at the next request
      });
      return {
        version,
        hostname: hostname(),
        platform: `${process.platform}-${process.arch}`,
        cpus: cpus().length,
        memory: totalmem(),
        ...(await probed),
      };
    },
  };
}
