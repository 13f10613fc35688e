// The folders of a VM: one in the runtime folder (socket, lock, status, what its process prints:
// of one run, gone after a reboot), one in the state folder (the console's history: kept).
import {
  chownSync,
  closeSync,
  existsSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { consoleSegments } from "../../api-schema/console-log.js";
import {
  type Account,
  type LaunchFile,
  MAX_SOCKET_PATH,
  runtimeFiles,
  VmDefinition,
  VmError,
} from "../../api-schema/index.js";
import { host } from "../../native/host.js";
import { seedOf } from "../cloud-init/seed.js";
import { PathRules } from "../paths.js";
import { withSeed } from "./launch-definition.js";

/** Beside the console's history: it is what the guest was told last. */
const SEED = "cloud-init.iso";

/** What all VM processes are started with alike. */
export interface VmSurroundings {
  readonly paths: PathRules;
  /** Whom they become; undefined: nobody else. */
  readonly user?: Account | undefined;
  /** False: they keep what only the building of their machine needs. */
  readonly confine?: boolean;
}

const CONSOLE_LIMIT = 16 * 2 ** 20;

export class VmFolders {
  readonly #stateDir: string;
  readonly #runtimeDir: string;
  readonly paths: PathRules;
  readonly #user: Account | undefined;
  readonly #confine: boolean;

  constructor(
    stateDir: string,
    runtimeDir: string,
    { paths, user, confine = true }: VmSurroundings = { paths: new PathRules() },
  ) {
    this.#stateDir = stateDir;
    this.#runtimeDir = runtimeDir;
    this.paths = paths;
    this.#user = user;
    this.#confine = confine;
  }

  /** Where the runtime folders of all VMs are. */
  all(): string {
    return join(this.#runtimeDir, "vm");
  }

  /** UUIDs of VMs that something is kept of. */
  kept(): string[] {
    const folder = join(this.#stateDir, "vms");
    return existsSync(folder) ? readdirSync(folder) : [];
  }

  /** The runtime folder of a VM: its UUID without hyphens, since socket paths are short. */
  of(uuid: string): string {
    return join(this.all(), uuid.replaceAll("-", "").toLowerCase());
  }

  socket(uuid: string): string {
    return join(this.of(uuid), runtimeFiles.socket);
  }

  /** Kept over restarts of the VM. */
  keptOf(uuid: string): string {
    return join(this.#stateDir, "vms", uuid.toLowerCase());
  }

  console(uuid: string): string {
    return join(this.keptOf(uuid), runtimeFiles.console);
  }

  /** A fresh runtime folder with its launch file; throws where a process still lives in it. */
  prepare(definition: VmDefinition, nonce: string): string {
    this.paths.check(VmDefinition, definition, { remote: false }); // links may have changed
    const folder = this.of(definition.uuid);
    const socket = this.socket(definition.uuid);
    if (Buffer.byteLength(socket) > MAX_SOCKET_PATH)
      throw new VmError("SOCKET_PATH_TOO_LONG", [socket, Buffer.byteLength(socket)]);
    refuseLocked(join(folder, runtimeFiles.lock));
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    const kept = this.keptOf(definition.uuid);
    mkdirSync(kept, { recursive: true, mode: 0o700 });
    const seed = this.#makeSeed(definition);
    if (process.getuid?.() === 0) give(kept, this.console(definition.uuid), this.#user ?? ROOT);
    const folders = this.paths.openedIn;
    const launch: LaunchFile = {
      nonce,
      definition: seed === undefined ? definition : withSeed(definition, seed),
      start: false,
      onReset: "restart",
      console: { file: this.console(definition.uuid), limit: CONSOLE_LIMIT },
      linger: 0,
      confine: this.#confine,
      ...(this.#user && { user: this.#user }),
      ...(folders.length > 0 && { folders: [...folders, kept] }),
    };
    writeFileSync(join(folder, runtimeFiles.launch), JSON.stringify(launch), { mode: 0o600 });
    return folder;
  }

  /** Where the disc for its cloud-init lies; undefined: it has none. */
  #makeSeed({ name, uuid, cloudInit }: VmDefinition): string | undefined {
    const path = join(this.keptOf(uuid), SEED);
    rmSync(path, { force: true });
    if (cloudInit === undefined) return undefined;
    writeFileSync(path, seedOf({ name, uuid, cloudInit }), { mode: 0o600, flag: "wx" });
    return path;
  }

  remove(uuid: string): void {
    rmSync(this.of(uuid), { recursive: true, force: true });
    rmSync(this.keptOf(uuid), { recursive: true, force: true });
  }
}

const ROOT = { uid: 0, gid: 0 };

/**
 * The console's history to who writes it; the folders above stay the daemon's. Whoever had it before
 * could leave links there: of those nothing is given away.
 */
function give(folder: string, base: string, { uid, gid }: { uid: number; gid: number }): void {
  for (const path of consoleSegments(base)) {
    const stats = lstatSync(path);
    if (stats.isFile() && stats.nlink === 1) lchownSync(path, uid, gid);
  }
  chownSync(folder, uid, gid);
}

function refuseLocked(path: string): void {
  if (!existsSync(path)) return;
  const fd = openSync(path, "a+");
  try {
    if (!host().lockFile(fd))
      throw new VmError("RUNTIME_LOCKED", [readFileSync(path, "utf8").trim(), path]);
  } finally {
    closeSync(fd);
  }
}
