// Parts of a disk, as requests name them.
import { slicePieces } from "../pieces.js";

/** Bytes [from, to) of the disk, in memory; of a request of this age. */
export interface Span {
  readonly from: number;
  readonly to: number;
  readonly pieces: readonly number[];
  readonly age: number;
}

export const cut = (span: Span, from: number, to: number): Span =>
  from === span.from && to === span.to
    ? span
    : { from, to, pieces: slicePieces(span.pieces, from - span.from, to - from), age: span.age };
