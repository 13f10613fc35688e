// The history of a console: a size-capped log on disk, addressed by the absolute offset of each
// byte of output since the VM was first started. The VM process writes it, so that a dead daemon
// loses nothing; any process reads it, also while it grows.
//
// It is a few plain files, `BASE.OFFSET`, whose names say where they begin (16 digits). Where one
// begins later than its predecessor ends, the bytes between were lost: the disk was full. Each
// holds up to half of the limit, and the oldest go when all together would be over it.
import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readdirSync,
  readSync,
  rmSync,
  writeSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";

export const DEFAULT_LIMIT = 1024 * 1024;
const DIGITS = 16;
/** A disk that is full again and again leaves many short segments: so many are kept. */
const MAX_SEGMENTS = 64;

/** What the writer needs of the file system; tests give one that is full. */
export interface LogFiles {
  open(path: string): number;
  write(fd: number, bytes: Uint8Array): number;
  close(fd: number): void;
  remove(path: string): void;
}

const realFiles: LogFiles = {
  open: (path) => openSync(path, "a", 0o600),
  write: (fd, bytes) => writeSync(fd, bytes),
  close: closeSync,
  remove: (path) => rmSync(path, { force: true }),
};

interface Segment {
  readonly path: string;
  readonly start: number;
}

interface OpenSegment {
  readonly path: string;
  readonly fd: number;
  size: number;
}

export interface ConsoleRead {
  /** Where `bytes` begin: the offset asked for, or the next one that is kept. */
  readonly offset: number;
  readonly bytes: Uint8Array;
  /** The first offset still kept, and the one that the next byte of output gets. */
  readonly first: number;
  readonly end: number;
}

export interface ConsoleGap {
  readonly from: number;
  readonly to: number;
}

const segmentPath = (base: string, start: number): string =>
  `${base}.${String(start).padStart(DIGITS, "0")}`;

/** Oldest first. A folder that is not there holds none. */
function listSegments(base: string): Segment[] {
  const prefix = `${basename(base)}.`;
  let names: string[] = [];
  try {
    names = readdirSync(dirname(base));
  } catch {
    return [];
  }
  return names
    .filter((name) => name.startsWith(prefix) && /^[0-9]{16}$/.test(name.slice(prefix.length)))
    .map((name) => ({
      path: join(dirname(base), name),
      start: Number(name.slice(prefix.length)),
    }))
    .filter(({ start }) => Number.isSafeInteger(start))
    .sort((a, b) => a.start - b.start);
}

/** The files of a history, oldest first. */
export const consoleSegments = (base: string): string[] =>
  listSegments(base).map(({ path }) => path);

/** Who writes a history is trusted less than who reads it: a link there is nothing. */
function sizeOf(path: string): number {
  const stats = lstatSync(path, { throwIfNoEntry: false });
  return stats?.isFile() ? stats.size : 0;
}

const extent = (segments: readonly Segment[]): { first: number; end: number } => {
  const last = segments.at(-1);
  return { first: segments[0]?.start ?? 0, end: last ? last.start + sizeOf(last.path) : 0 };
};

/** No link is followed, and no pipe waited for. */
const HISTORY = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

/** undefined: the file went away between listing and opening, or is not for us. */
function readSegment({ path, start }: Segment, from: number, max: number): Uint8Array | undefined {
  let fd: number;
  try {
    fd = openSync(path, HISTORY);
  } catch {
    return undefined;
  }
  try {
    const length = Math.max(0, Math.min(max, fstatSync(fd).size - (from - start)));
    const bytes = new Uint8Array(length);
    return bytes.subarray(0, readSync(fd, bytes, 0, length, from - start));
  } finally {
    closeSync(fd);
  }
}

/** One contiguous run of output at or after `offset`; empty at the end of the log. */
export function readConsoleLog(base: string, offset: number, max: number): ConsoleRead {
  const unreadable = new Set<string>();
  for (;;) {
    const segments = listSegments(base).filter(({ path }) => !unreadable.has(path));
    const { first, end } = extent(segments);
    const segment = segments.find(({ path, start }) => {
      const size = sizeOf(path);
      return size > 0 && start + size > offset;
    });
    if (segment === undefined) return { offset: end, bytes: new Uint8Array(0), first, end };
    const from = Math.max(offset, segment.start);
    const bytes = readSegment(segment, from, max);
    if (bytes !== undefined)
      return { offset: from, bytes, first, end: Math.max(end, from + bytes.length) };
    unreadable.add(segment.path);
  }
}

/** The places where output was lost, oldest first. */
export function consoleGaps(base: string): ConsoleGap[] {
  const segments = listSegments(base).filter(({ path }) => sizeOf(path) > 0);
  return segments.slice(1).flatMap(({ start }, index) => {
    const before = segments[index];
    const from = before ? before.start + sizeOf(before.path) : start;
    return from < start ? [{ from, to: start }] : [];
  });
}

export class ConsoleLog {
  readonly base: string;
  readonly #half: number;
  readonly #files: LogFiles;
  #current: OpenSegment | undefined;
  #end: number;
  #lost = 0;
  #failure: string | undefined;

  constructor(base: string, limit = DEFAULT_LIMIT, files = realFiles) {
    this.base = base;
    this.#half = Math.max(1, Math.floor(limit / 2));
    this.#files = files;
    this.#end = extent(listSegments(base)).end;
  }

  /** The offset that the next byte gets: all output ever, lost or not. */
  get end(): number {
    return this.#end;
  }
  /** Bytes of output that could not be written. */
  get lost(): number {
    return this.#lost;
  }
  /** Why the last write failed; undefined while all is well. */
  get failure(): string | undefined {
    return this.#failure;
  }

  /** Never throws: what cannot be written is counted, and shows as a gap. */
  append(bytes: Uint8Array): void {
    let left = bytes;
    while (left.length > 0) {
      const written = this.#appendSome(left);
      if (written === 0) break;
      left = left.subarray(written);
    }
    if (left.length === 0) return;
    this.#lost += left.length;
    this.#end += left.length;
    this.#leaveSegment();
  }

  read(offset: number, max: number): ConsoleRead {
    const found = readConsoleLog(this.base, offset, max);
    return found.bytes.length > 0 ? found : { ...found, offset: this.#end, end: this.#end };
  }

  close(): void {
    this.#leaveSegment();
  }

  #appendSome(bytes: Uint8Array): number {
    try {
      const segment = this.#segment();
      const room = bytes.subarray(0, this.#half - segment.size);
      const written = this.#files.write(segment.fd, room);
      segment.size += written;
      this.#end += written;
      this.#failure = undefined;
      if (segment.size >= this.#half) this.#leaveSegment();
      return written;
    } catch (error) {
      this.#failure = error instanceof Error ? error.message : String(error);
      return 0;
    }
  }

  /** The open segment, or a new one that begins at the end. */
  #segment(): OpenSegment {
    if (this.#current) return this.#current;
    this.#trim();
    const path = segmentPath(this.base, this.#end);
    this.#current = { path, fd: this.#files.open(path), size: sizeOf(path) };
    return this.#current;
  }

  #leaveSegment(): void {
    const current = this.#current;
    this.#current = undefined;
    if (current === undefined) return;
    try {
      this.#files.close(current.fd);
      if (current.size === 0) this.#files.remove(current.path);
    } catch (error) {
      this.#failure = error instanceof Error ? error.message : String(error);
    }
  }

  /** Before a new segment: what stays is at most half of the limit. */
  #trim(): void {
    let kept = 0;
    const segments = listSegments(this.base).reverse();
    for (const [index, { path }] of segments.entries()) {
      kept += sizeOf(path);
      if (kept > this.#half || index >= MAX_SEGMENTS - 1) this.#files.remove(path);
    }
  }
}
