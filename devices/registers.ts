// Registers as data. A block is declared once, beside its specification; access rules, reset
// values and bounds follow from the table.

/** ro: writes vanish. rw: writes land in the `writable` bits. w1c: a 1 clears. */
export type Access = "ro" | "rw" | "w1c";

export interface Register {
  readonly at: number;
  readonly width: 1 | 2 | 4;
  readonly access: Access;
  readonly reset?: number;
  /** The bits that a write may change; all of them where absent. */
  readonly writable?: number;
  /** Document, revision and section title. */
  readonly cite: string;
}

export type Block<Name extends string> = Readonly<Record<Name, Register>>;

/** Called after the stored value changed by a write; the one place of a register's side effects. */
export type Effects<Name extends string> = {
  readonly [N in Name]?: (now: number, before: number) => void;
};

/** Throws where registers overlap, are unaligned or leave the block: an error of the table. */
export function defineBlock<const Name extends string>(
  title: string,
  length: number,
  block: Block<Name>,
): Block<Name> {
  const owner = new Array<string | undefined>(length);
  for (const [name, { at, width }] of Object.entries<Register>(block)) {
    if (at % width !== 0) throw new Error(`${title}.${name}: offset ${at} is not aligned`);
    if (at + width > length) throw new Error(`${title}.${name}: ends past ${length} bytes`);
    for (let lane = at; lane < at + width; lane++) {
      if (owner[lane] !== undefined) throw new Error(`${title}.${name} overlaps ${owner[lane]}`);
      owner[lane] = name;
    }
  }
  return Object.freeze(block);
}

const ones = (width: number): number => (width === 4 ? 0xffffffff : (1 << (8 * width)) - 1) >>> 0;

export class RegisterFile<Name extends string> {
  readonly #block: Block<Name>;
  readonly #effects: Effects<Name>;
  readonly #stored: (name: Name, value: number) => void;
  readonly #byLane = new Map<number, Name>();
  readonly #value = new Map<Name, number>();

  /** `stored` is told of every value, whoever stores it: for who publishes them. */
  constructor(
    block: Block<Name>,
    effects: Effects<Name> = {},
    stored: (name: Name, value: number) => void = () => {},
  ) {
    this.#block = block;
    this.#effects = effects;
    this.#stored = stored;
    for (const name of this.names())
      for (let lane = 0; lane < block[name].width; lane++)
        this.#byLane.set(block[name].at + lane, name);
    this.reset();
  }

  names(): Name[] {
    return Object.keys(this.#block) as Name[];
  }

  reset(): void {
    for (const name of this.names()) this.set(name, this.#block[name].reset ?? 0);
  }

  get(name: Name): number {
    return this.#value.get(name) ?? 0;
  }

  /** The device's own update: no access rules, no effects. */
  set(name: Name, value: number): void {
    const kept = (value & ones(this.#block[name].width)) >>> 0;
    this.#value.set(name, kept);
    this.#stored(name, kept);
  }

  /** What no register covers reads as zero. */
  read(offset: number, size: number): number {
    let out = 0;
    for (let lane = 0; lane < size; lane++) {
      const name = this.#byLane.get(offset + lane);
      if (name === undefined) continue;
      const shift = 8 * (offset + lane - this.#block[name].at);
      out |= ((this.get(name) >>> shift) & 0xff) << (8 * lane);
    }
    return out >>> 0;
  }

  /** A narrow or straddling access becomes one merged write to each register it touches. */
  write(offset: number, size: number, value: number): void {
    const touched = new Map<Name, { bits: number; lanes: number }>();
    for (let lane = 0; lane < size; lane++) {
      const name = this.#byLane.get(offset + lane);
      if (name === undefined) continue;
      const shift = 8 * (offset + lane - this.#block[name].at);
      const seen = touched.get(name) ?? { bits: 0, lanes: 0 };
      touched.set(name, {
        bits: seen.bits | (((value >>> (8 * lane)) & 0xff) << shift),
        lanes: seen.lanes | (0xff << shift),
      });
    }
    for (const [name, { bits, lanes }] of touched) this.#store(name, bits, lanes);
  }

  #store(name: Name, bits: number, lanes: number): void {
    const { access, writable = 0xffffffff } = this.#block[name];
    if (access === "ro") return;
    const before = this.get(name);
    const may = lanes & writable;
    this.set(name, access === "w1c" ? before & ~(bits & may) : (before & ~may) | (bits & may));
    this.#effects[name]?.(this.get(name), before);
  }
}
