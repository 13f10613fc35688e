// The other end of a network card's stream, as no passt behaves: frames of any content, runts, lengths
// that are not their own, and an end in the middle.
import { createServer, type Server, type Socket } from "node:net";
import type { Random } from "./random.js";

/** What the card has not read is not added to for ever. */
const MOST_WAITING = 2 ** 20;
const LARGEST_FRAME = 65553;

function message(random: Random): Buffer {
  const length = random.pick([60, 1514, random.below(100), random.below(LARGEST_FRAME)]);
  const out = Buffer.alloc(4 + length);
  for (let at = 4; at + 4 <= Math.min(out.length, 64); at += 4)
    out.writeUInt32LE(random.next(), at);
  out.writeUInt32BE(random.chance(200) ? random.next() : length);
  return out;
}

export class HostilePeer {
  readonly #server: Server;
  readonly #cards = new Set<Socket>();

  private constructor() {
    this.#server = createServer((card) => {
      this.#cards.add(card);
      card.on("error", () => card.destroy());
      card.on("close", () => this.#cards.delete(card));
      card.resume();
    });
  }
  static listen(path: string): Promise<HostilePeer> {
    const peer = new HostilePeer();
    return new Promise((resolve, reject) => {
      peer.#server.once("error", reject);
      peer.#server.listen(path, () => resolve(peer));
    });
  }

  say(random: Random): void {
    for (const card of this.#cards) {
      for (let left = random.below(20); left > 0 && card.writableLength < MOST_WAITING; left--)
        card.write(message(random));
      if (random.chance(50)) card.destroy();
    }
  }
  close(): void {
    for (const card of this.#cards) card.destroy();
    this.#server.close();
  }
}
