// Where the cards of a switch meet: a folder for each network, the user's own.
import { lstatSync, mkdirSync } from "node:fs";
import { join } from "node:path";

/** XHYVED_NETWORKS, else root's place for such things, else the user's. */
function networksFolder(): string {
  const { XHYVED_NETWORKS, XDG_RUNTIME_DIR } = process.env;
  if (XHYVED_NETWORKS) return XHYVED_NETWORKS;
  const uid = process.geteuid?.() ?? 0;
  if (uid === 0) return "/var/run/xhyved/networks";
  return join(XDG_RUNTIME_DIR || `/tmp/xhyved-${uid}`, "xhyved", "networks");
}

/** Made where it is not there. Throws an Error where it is not ours alone to write to. */
export function switchFolder(network: string): string {
  const all = networksFolder();
  for (const folder of [all, join(all, network)]) {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    const { uid, mode } = lstatSync(folder);
    const own = uid === process.geteuid?.();
    if (!own || mode & 0o022) throw new Error(`${folder} can be written to by others`);
  }
  return join(all, network);
}
