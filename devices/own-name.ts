// Names that a device made on the host: sockets, links to terminals.
import { rmSync } from "node:fs";

/**
 * Takes a name away. A process that has given its rights up meanwhile cannot: whoever governs it does
 * so when it has ended.
 */
export function removeName(path: string): void {
  try {
    rmSync(path, { force: true });
  } catch {
    // not ours any more
  }
}
