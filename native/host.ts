// What Node lacks of the host, for the daemon and the VM process: locks, identities of processes and
// peers, opening beneath a folder, passing descriptors, the service manager. No VM code is behind it.
import type { Socket } from "node:net";
import { loadAddon } from "./addon.js";

/** In bytes. */
export interface BlockDevice {
  readonly size: number;
  /** What its sectors look like, and what it writes in one piece. */
  readonly logical: number;
  readonly physical: number;
}

export interface PeerCredentials {
  readonly uid: number;
  readonly gid: number;
  /** -1 where the host does not say. */
  readonly pid: number;
}

export interface Pty {
  /** The master, non-blocking. */
  readonly fd: number;
  /** The terminal itself, in raw mode. */
  readonly slave: number;
  readonly path: string;
}

export interface Received {
  /** Empty at the end of the stream. */
  readonly bytes: Buffer;
  readonly fds: readonly number[];
}

/** Each throws an Error like Node's own (code, errno, syscall) for what is not said below. */
export interface HostFacilities {
  /** A flock() that does not wait, exclusive unless `shared`; false where another open file's is in the way. */
  lockFile(fd: number, shared?: boolean): boolean;
  unlockFile(fd: number): void;
  /** The same open file under another number: offset, flags and lock are shared. */
  duplicate(fd: number): number;
  /**
   * What memory, offsets and lengths of a file that is open past the page cache must be multiples
   * of; more than 65536: it cannot be read so.
   */
  directAlignment(fd: number): number;
  /** Of an open block device. Throws a system error. */
  blockDevice(fd: number): BlockDevice;
  /** Who is on the other end of a connected Unix socket. */
  peerCredentials(fd: number): PeerCredentials;
  /** Names a process for good together with its pid; undefined where there is none, or a zombie. */
  processStart(pid: number): string | undefined;
  /** To that process and no other that got its number; false where it is gone. Signal 0 only looks. */
  signalProcess(pid: number, started: string, signal: number): boolean;
  /** open(2) of a relative path that cannot leave the folder by ".." or links; EXDEV or ELOOP then. */
  openBeneath(folder: number, path: string, flags: number, mode: number): number;
  /** Bytes sent; undefined where a non-blocking socket is full. At most 64 descriptors. */
  sendDescriptors(socket: number, bytes: Uint8Array, fds: readonly number[]): number | undefined;
  /** undefined where a non-blocking socket is empty. */
  receiveDescriptors(socket: number, most: number): Received | undefined;
  /** systemd's notification protocol ("READY=1"); false where NOTIFY_SOCKET is not set. */
  sdNotify(text: string): boolean;
  /**
   * Gives up, for good and for all threads, what the process of a VM has no need of once its machine
   * stands: new programs and processes, new privileges, core files, sockets other than Unix ones. On
   * Linux such calls fail with ENOSYS then. macOS goes by `profile`, the text of a sandbox profile,
   * which Linux does not look at.
   */
  confine(profile: string): void;
  /** Both ends of a new pseudo-terminal. */
  openPty(): Pty;
  /** launchd's sockets of this job; undefined on other hosts. */
  launchActivateSocket(name: string): number[] | undefined;
}

let loaded: HostFacilities | undefined;

export const host = (): HostFacilities => {
  loaded ??= loadAddon("host") as HostFacilities;
  return loaded;
};

/** Of an open socket: Node keeps it to itself but for this. undefined where it is closed. */
export function descriptorOf(socket: Socket): number | undefined {
  const { fd = -1 } = (socket as unknown as { _handle?: { fd?: number } })._handle ?? {};
  return fd < 0 ? undefined : fd;
}
