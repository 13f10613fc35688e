// The drive's tray and what lies in it: who may open it, and what the host of the drive is told of
// it. MMC-6, "Removable Medium", "GET EVENT STATUS NOTIFICATION" and "START STOP UNIT".
import type { BlockBackend } from "../block/backend.js";
import {
  flag,
  int,
  list,
  optional,
  record,
  type Shape,
  StateError,
  type StateOf,
} from "../state.js";
import { SENSE, type Sense, senseState } from "./sense.js";

export interface Medium {
  /** What it is called in the machine's definition. */
  readonly label: string;
  readonly backend: BlockBackend;
}

export const BLOCK = 2048;

/** "Media Event Descriptor": event codes and the bits of its status. */
export const MEDIA_EVENT = { none: 0, ejectRequest: 1, newMedia: 2, removal: 3 } as const;
const MEDIA_STATUS = { open: 1, present: 2 } as const;

const label: Shape<string> = (value, path) => {
  if (typeof value === "string" && value.length <= 8192) return value;
  throw new StateError(`${path}: a text expected`);
};
export const trayState = record({
  open: flag,
  locked: flag,
  event: int(0, 3),
  attentions: list(senseState, 4),
  medium: optional(label),
});
export type TrayState = StateOf<typeof trayState>;

export class Tray {
  #medium: Medium | undefined;
  #open = false;
  #locked = false;
  #event: number = MEDIA_EVENT.none;
  /** Unit attentions, each of which ends one command. */
  #attentions: Sense[] = [SENSE.wasReset];

  constructor(medium: Medium | undefined) {
    this.#medium = medium;
  }

  /** What can be read now. */
  get medium(): BlockBackend | undefined {
    return this.#open ? undefined : this.#medium?.backend;
  }
  get label(): string | undefined {
    return this.#medium?.label;
  }
  get isOpen(): boolean {
    return this.#open;
  }
  get locked(): boolean {
    return this.#locked;
  }
  get blocks(): number {
    return Math.floor((this.medium?.geometry.size ?? 0) / BLOCK);
  }
  get missing(): Sense {
    return this.#open ? SENSE.noMediumTrayOpen : SENSE.noMediumTrayClosed;
  }
  get mediaStatus(): number {
    return (this.#open ? MEDIA_STATUS.open : 0) | (this.medium ? MEDIA_STATUS.present : 0);
  }

  /** "PREVENT ALLOW MEDIUM REMOVAL" */
  lock(on: boolean): void {
    this.#locked = on;
  }

  /** By the guest. */
  move(open: boolean): void {
    if (open === this.#open) return;
    this.#open = open;
    this.#event = open || !this.#medium ? MEDIA_EVENT.removal : MEDIA_EVENT.newMedia;
    if (!open && this.#medium) this.#attention(SENSE.mediumChanged);
  }

  /** The button at the front, while the guest keeps the door shut. */
  requestEject(): void {
    this.#event = MEDIA_EVENT.ejectRequest;
  }

  /** From outside: what lay in it is given back. Without a new medium the tray stays open. */
  exchange(medium: Medium | undefined): Medium | undefined {
    const before = this.#medium;
    this.#medium = medium;
    this.#locked = false;
    this.#open = medium === undefined;
    this.#event = medium ? MEDIA_EVENT.newMedia : MEDIA_EVENT.removal;
    if (medium) this.#attention(SENSE.mediumChanged);
    return before;
  }

  takeEvent(): number {
    const event = this.#event;
    this.#event = MEDIA_EVENT.none;
    return event;
  }
  takeAttention(): Sense | undefined {
    return this.#attentions.shift();
  }

  /** A reset opens the lock; it does not move the tray. */
  reset(): void {
    this.#locked = false;
    this.#attentions = [SENSE.wasReset];
  }

  save(): TrayState {
    return {
      open: this.#open,
      locked: this.#locked,
      event: this.#event,
      attentions: this.#attentions,
      medium: this.label ?? null,
    };
  }

  /** Another medium than the saved machine had is one that was changed meanwhile. */
  restore({ open, locked, event, attentions, medium }: TrayState): void {
    this.#open = open;
    this.#locked = locked;
    this.#event = event;
    this.#attentions = [...attentions];
    if (medium !== (this.label ?? null)) this.exchange(this.#medium);
  }

  dispose(): void {
    this.#medium?.backend.close();
  }

  #attention(sense: Sense): void {
    const { key, code } = sense;
    const known = this.#attentions.some((one) => one.key === key && one.code === code);
    if (!known) this.#attentions.push(sense);
  }
}
