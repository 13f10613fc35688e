// The bytes of one function's configuration space and which of their bits the guest may change.
import type { Block, Register } from "../registers.js";
import {
  type Capability,
  EXTENDED_SIZE,
  FIRST_CAPABILITY,
  HEADER,
  type HeaderRegister,
  STATUS,
} from "./registers.js";

export class ConfigSpace {
  readonly size: number;
  readonly bytes: Uint8Array;
  readonly #reset: Uint8Array;
  readonly #writable: Uint8Array;
  readonly #clearable: Uint8Array;
  readonly #view: DataView;
  #nextCapability = FIRST_CAPABILITY;
  /** Where the id of the last capability's successor goes. */
  #link = HEADER.capabilities.at;

  constructor(size: number) {
    this.size = size;
    this.bytes = new Uint8Array(size);
    this.#reset = new Uint8Array(size);
    this.#writable = new Uint8Array(size);
    this.#clearable = new Uint8Array(size);
    this.#view = new DataView(this.bytes.buffer);
    this.layout(HEADER);
  }

  /** Adds a table of registers at `base`, and puts them at their reset values. */
  layout(block: Block<string>, base = 0): void {
    for (const register of Object.values<Register>(block)) this.define(base, register);
  }

  define(base: number, { at, width, access, reset = 0, writable }: Register): void {
    const mask = access === "ro" ? 0 : (writable ?? 0xffffffff);
    for (let lane = 0; lane < width; lane++) {
      const index = base + at + lane;
      this.setReset(index, 1, (reset >>> (8 * lane)) & 0xff);
      (access === "w1c" ? this.#clearable : this.#writable)[index] = (mask >>> (8 * lane)) & 0xff;
    }
  }

  /** Capabilities are packed from 0x40 on, at dwords. Returns where this one lies. */
  addCapability({ id, length, registers }: Capability): number {
    const at = this.#nextCapability;
    if (at + length > 0x100) throw new Error("no room for another PCI capability");
    this.layout(registers, at);
    this.setReset(at, 1, id);
    this.setReset(this.#link, 1, at);
    this.setReset(HEADER.status.at, 2, this.#reset16(HEADER.status.at) | STATUS.capabilities);
    this.#link = at + 1;
    this.#nextCapability = (at + length + 3) & ~3;
    return at;
  }

  /** The value now and after every reset. */
  setReset(at: number, width: number, value: number): void {
    for (let lane = 0; lane < width; lane++) {
      const byte = Math.floor(value / 2 ** (8 * lane)) & 0xff;
      this.#reset[at + lane] = byte;
      this.bytes[at + lane] = byte;
    }
  }

  setResetOf(name: HeaderRegister, value: number): void {
    this.setReset(HEADER[name].at, HEADER[name].width, value);
  }

  get(name: HeaderRegister): number {
    return this.read(HEADER[name].at, HEADER[name].width);
  }

  read(at: number, width: number): number {
    if (width === 1) return this.#view.getUint8(at);
    return width === 2 ? this.#view.getUint16(at, true) : this.#view.getUint32(at, true);
  }

  /** The device's own update: no access rules. */
  set(at: number, width: number, value: number): void {
    for (let lane = 0; lane < width; lane++) this.bytes[at + lane] = (value >>> (8 * lane)) & 0xff;
  }

  /** The guest's. */
  write(at: number, width: number, value: number): void {
    for (let lane = 0; lane < width; lane++) {
      const index = at + lane;
      const byte = (value >>> (8 * lane)) & 0xff;
      const may = this.#writable[index] ?? 0;
      const kept = (this.bytes[index] ?? 0) & ~may & ~(byte & (this.#clearable[index] ?? 0));
      this.bytes[index] = kept | (byte & may);
    }
  }

  reset(): void {
    this.bytes.set(this.#reset);
  }

  /** Takes what the guest may have changed; what it could not change stays this device's own. */
  restore(saved: Uint8Array): void {
    for (const [index, byte] of saved.entries()) {
      const may = (this.#writable[index] ?? 0) | (this.#clearable[index] ?? 0);
      this.bytes[index] = ((this.bytes[index] ?? 0) & ~may) | (byte & may);
    }
  }

  /** Extended space follows: this is a PCI Express function. */
  get extended(): boolean {
    return this.size === EXTENDED_SIZE;
  }

  #reset16(at: number): number {
    return (this.#reset[at] ?? 0) | ((this.#reset[at + 1] ?? 0) << 8);
  }
}
