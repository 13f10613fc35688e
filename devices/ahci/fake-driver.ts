// A driver of one AHCI port for tests: registers and structures as the specification has them, typed
// in again from it, so that a slip in the device's own tables shows.
import type { FakeHost } from "../fakes.js";

/** Registers of a port. */
export const PX = {
  ...{ clb: 0x00, fb: 0x08, is: 0x10, ie: 0x14, cmd: 0x18, tfd: 0x20, sig: 0x24, ssts: 0x28 },
  ...{ sctl: 0x2c, serr: 0x30, sact: 0x34, ci: 0x38, sntf: 0x3c },
} as const;

const LIST = 0x1000;
const RECEIVED = 0x2000;
const TABLES = 0x4000;
const TABLE_SIZE = 0x400;
const DATA = 0x10000;
const DATA_SIZE = 0x4000;

export interface Registers {
  readonly command: number;
  readonly features?: number;
  readonly lba?: number;
  readonly count?: number;
  readonly device?: number;
  readonly auxiliary?: number;
}

export interface Issue {
  readonly slot?: number;
  readonly packet?: readonly number[];
  /** Bytes of the data buffer; regions of at most `region` bytes each. */
  readonly length?: number;
  readonly region?: number;
  /** Instead of a Register FIS with the C bit. */
  readonly frame?: Uint8Array;
  readonly flags?: number;
}

export class FakeAhciDriver {
  readonly host: FakeHost;
  readonly base: number;
  readonly port: number;
  readonly #view: DataView;
  readonly #move: number;

  /** `place`: which of several drivers in one memory this is. */
  constructor(host: FakeHost, base: number, port = 0, place = 0) {
    this.host = host;
    this.base = base;
    this.port = base + 0x100 + 0x80 * port;
    this.#view = new DataView(host.memory.bytes.buffer);
    this.#move = place * 0x100000;
  }

  /** Enables interrupts, frames and commands; clears what the link's coming up left. */
  start(): this {
    this.set(PX.clb, this.#at(LIST));
    this.set(PX.fb, this.#at(RECEIVED));
    this.set(PX.cmd, this.get(PX.cmd) | 0x10);
    this.set(PX.serr, 0xffffffff);
    this.set(PX.is, 0xffffffff);
    this.set(PX.ie, 0xffffffff);
    this.set(PX.cmd, this.get(PX.cmd) | 0x01);
    this.host.bus.store(this.base + 4, 0x2);
    return this;
  }

  restart(): void {
    this.set(PX.cmd, this.get(PX.cmd) & ~1);
    this.set(PX.serr, 0xffffffff);
    this.set(PX.is, 0xffffffff);
    this.set(PX.cmd, this.get(PX.cmd) | 1);
  }

  get(register: number): number {
    return this.host.bus.load(this.port + register);
  }
  set(register: number, value: number): void {
    this.host.bus.store(this.port + register, value >>> 0);
  }

  data(slot = 0): Uint8Array {
    const at = this.#at(DATA + DATA_SIZE * slot);
    return this.host.memory.bytes.subarray(at, at + DATA_SIZE);
  }
  received(offset: number, length: number): Uint8Array {
    const at = this.#at(RECEIVED + offset);
    return this.host.memory.bytes.slice(at, at + length);
  }
  transferred(slot = 0): number {
    return this.#view.getUint32(this.#at(LIST + 32 * slot + 4), true);
  }
  /** Where the structures lie, for tests that spoil them. */
  tableAt(slot = 0): number {
    return this.#at(TABLES + TABLE_SIZE * slot);
  }
  headerAt(slot = 0): number {
    return this.#at(LIST + 32 * slot);
  }

  prepare(registers: Registers, issue: Issue = {}): number {
    const { slot = 0, packet = [], length = 0, region = 4096, frame, flags = 0 } = issue;
    const table = this.tableAt(slot);
    const bytes = this.host.memory.bytes;
    bytes.fill(0, table, table + TABLE_SIZE);
    bytes.set(frame ?? registerFrame(registers), table);
    bytes.set(packet, table + 0x40);
    let count = 0;
    for (let done = 0; done < length; done += region, count++) {
      const at = table + 0x80 + 16 * count;
      this.#view.setUint32(at, this.#at(DATA + DATA_SIZE * slot) + done, true);
      this.#view.setUint32(at + 4, 0, true);
      this.#view.setUint32(at + 12, Math.min(region, length - done) - 1, true);
    }
    const header = this.headerAt(slot);
    this.#view.setUint32(header, (count << 16) | (packet.length > 0 ? 0x20 : 0) | flags | 5, true);
    this.#view.setUint32(header + 4, 0, true);
    this.#view.setUint32(header + 8, table, true);
    this.#view.setUint32(header + 12, 0, true);
    return slot;
  }

  /** Issues one command that is not queued and waits for its end; the status register. */
  async run(registers: Registers, issue: Issue = {}): Promise<number> {
    const slot = this.prepare(registers, issue);
    this.set(PX.ci, 2 ** slot);
    await settle();
    return this.get(PX.tfd) & 0xff;
  }

  /** A packet command by DMA; status and error registers. */
  async packet(bytes: readonly number[], length = 0): Promise<[status: number, error: number]> {
    const packet = [...bytes, ...Array.from({ length: 12 - bytes.length }, () => 0)];
    await this.run({ command: 0xa0, features: 1 }, { packet, length });
    const tfd = this.get(PX.tfd);
    return [tfd & 0xff, tfd >> 8];
  }

  #at(place: number): number {
    return place + this.#move;
  }
}

export function registerFrame(registers: Registers): Uint8Array {
  const { command, features = 0, lba = 0, count = 0, device = 0x40, auxiliary = 0 } = registers;
  const [low, high] = [lba % 2 ** 24, Math.floor(lba / 2 ** 24)];
  return Uint8Array.of(
    ...[0x27, 0x80, command, features & 0xff],
    ...[low & 0xff, (low >> 8) & 0xff, low >> 16, device],
    ...[high & 0xff, (high >> 8) & 0xff, high >> 16, features >> 8],
    ...[count & 0xff, count >> 8, 0, 0],
    ...[auxiliary & 0xff, 0, 0, 0],
  );
}

export async function settle(): Promise<void> {
  for (let i = 0; i < 12; i++) await Promise.resolve();
}
