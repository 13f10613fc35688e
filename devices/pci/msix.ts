// MSI-X: the table and the pending bits in a BAR of their own. PCI Local Bus Specification 3.0,
// "MSI-X Capability and Table Structures".
import type { RangeHandler } from "../../native/types.js";
import { allOnes } from "../bits.js";
import { base64, fromBase64, record, type StateOf, toBase64 } from "../state.js";
import { MSIX_ENTRY } from "./registers.js";

const MAX_VECTORS = 2048;
const WORDS_PER_ENTRY = MSIX_ENTRY.size / 4;
const PAGE = 4096;

export type SendMessage = (address: number, upper: number, data: number) => void;

export const pendingOffset = (vectors: number): number =>
  Math.ceil((vectors * MSIX_ENTRY.size) / PAGE) * PAGE;
const pendingBytes = (vectors: number): number => Math.ceil(vectors / 64) * 8;
export const msixBarSize = (vectors: number): number =>
  2 ** Math.ceil(Math.log2(pendingOffset(vectors) + pendingBytes(vectors)));

export const msixState = (vectors: number) =>
  record({
    table: base64(vectors * MSIX_ENTRY.size),
    pending: base64(pendingBytes(vectors)),
  });
export type MsixState = StateOf<ReturnType<typeof msixState>>;

export class Msix implements RangeHandler {
  readonly vectors: number;
  readonly #table: Uint32Array;
  readonly #pending: Uint32Array;
  readonly #send: SendMessage;
  /** Enabled and not masked as a whole: what Message Control says. */
  #open = false;

  constructor(vectors: number, send: SendMessage) {
    if (!Number.isInteger(vectors) || vectors < 1 || vectors > MAX_VECTORS)
      throw new Error(`MSI-X with ${vectors} vectors`);
    this.vectors = vectors;
    this.#table = new Uint32Array(vectors * WORDS_PER_ENTRY);
    this.#pending = new Uint32Array(pendingBytes(vectors) / 4);
    this.#send = send;
    this.reset();
  }

  /** Sends the vector's message, or keeps it pending until vector and function are unmasked. */
  raise(vector: number): void {
    if (vector < 0 || vector >= this.vectors) return;
    if (this.#open && !this.#masked(vector)) this.#deliver(vector);
    else this.#setPending(vector, true);
  }

  setOpen(open: boolean): void {
    this.#open = open;
    for (let vector = 0; open && vector < this.vectors; vector++) this.#retry(vector);
  }

  /** "software must use aligned DWORD or QWORD accesses": reads are generous, writes are not. */
  read(offset: number, size: number): number {
    const word = this.#word(offset & ~3);
    return ((word >>> (8 * (offset & 3))) & allOnes(size)) >>> 0;
  }

  write(offset: number, size: number, value: number): void {
    const index = offset >> 2;
    if (size !== 4 || offset & 3 || index >= this.#table.length) return;
    const isControl = index % WORDS_PER_ENTRY === MSIX_ENTRY.control;
    const isAddress = index % WORDS_PER_ENTRY === MSIX_ENTRY.address;
    this.#table[index] = isControl ? value & MSIX_ENTRY.masked : isAddress ? value & ~3 : value;
    if (isControl) this.#retry(Math.floor(index / WORDS_PER_ENTRY));
  }

  reset(): void {
    this.#open = false;
    this.#pending.fill(0);
    this.#table.fill(0);
    for (let vector = 0; vector < this.vectors; vector++)
      this.#table[vector * WORDS_PER_ENTRY + MSIX_ENTRY.control] = MSIX_ENTRY.masked;
  }

  save(): MsixState {
    return { table: toBase64(bytesOf(this.#table)), pending: toBase64(bytesOf(this.#pending)) };
  }
  restore(state: MsixState): void {
    bytesOf(this.#table).set(fromBase64(state.table));
    bytesOf(this.#pending).set(fromBase64(state.pending));
  }

  #word(offset: number): number {
    const pendingAt = pendingOffset(this.vectors);
    if (offset >= pendingAt) return this.#pending[(offset - pendingAt) >> 2] ?? 0;
    return this.#table[offset >> 2] ?? 0;
  }
  #entry(vector: number, word: number): number {
    return this.#table[vector * WORDS_PER_ENTRY + word] ?? 0;
  }
  #masked(vector: number): boolean {
    return (this.#entry(vector, MSIX_ENTRY.control) & MSIX_ENTRY.masked) !== 0;
  }
  #isPending(vector: number): boolean {
    return (((this.#pending[vector >> 5] ?? 0) >>> (vector & 31)) & 1) !== 0;
  }
  #setPending(vector: number, on: boolean): void {
    const bit = 1 << (vector & 31);
    const word = this.#pending[vector >> 5] ?? 0;
    this.#pending[vector >> 5] = on ? word | bit : word & ~bit;
  }
  #retry(vector: number): void {
    if (this.#open && this.#isPending(vector) && !this.#masked(vector)) this.#deliver(vector);
  }
  #deliver(vector: number): void {
    this.#setPending(vector, false);
    const { address, upper, data } = MSIX_ENTRY;
    this.#send(this.#entry(vector, address), this.#entry(vector, upper), this.#entry(vector, data));
  }
}

/** The host is little-endian on every platform that Node runs our guests on. */
const bytesOf = (words: Uint32Array): Uint8Array =>
  new Uint8Array(words.buffer, words.byteOffset, words.byteLength);
