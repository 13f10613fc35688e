// What SET FEATURES and power management leave in a device: ACS-3, "SET FEATURES" and "Power
// Management feature set".
import { flag, int, record, type StateOf } from "../state.js";
import { COMMAND, FEATURE, SATA_FEATURE } from "./ata.js";
import type { HostFrame } from "./fis.js";

/** "CHECK POWER MODE", Count */
const POWER = { standby: 0x00, idle: 0x80, active: 0xff } as const;
const DEFAULT_MODE = 0x45; // Ultra DMA mode 5

export const featureState = record({
  writeCache: flag,
  lookAhead: flag,
  smart: flag,
  /** Survives COMRESET: "Software settings preservation". */
  preservation: flag,
  notification: flag,
  revert: flag,
  /** Sectors a block of READ and WRITE MULTIPLE; 0: not set. */
  multiple: int(0, 128),
  transferMode: int(0, 0xff),
  power: int(0, 0xff),
});
export type FeatureState = StateOf<typeof featureState>;

const initial: FeatureState = {
  writeCache: true,
  lookAhead: true,
  smart: true,
  preservation: true,
  notification: false,
  revert: true,
  multiple: 0,
  transferMode: DEFAULT_MODE,
  power: POWER.active,
};

const POWER_AFTER: Readonly<Partial<Record<number, number>>> = {
  [COMMAND.standbyImmediate]: POWER.standby,
  [COMMAND.standby]: POWER.standby,
  [COMMAND.sleep]: POWER.standby,
  [COMMAND.idleImmediate]: POWER.idle,
  [COMMAND.idle]: POWER.idle,
};

/** PIO flow control, multiword DMA and Ultra DMA, each up to what IDENTIFY says. */
const isTransferMode = (mode: number): boolean =>
  mode <= 1 ||
  (mode >= 0x08 && mode <= 0x0c) ||
  (mode >= 0x20 && mode <= 0x22) ||
  (mode >= 0x40 && mode <= 0x46);

export class Features {
  state: FeatureState = initial;
  readonly #isPacket: boolean;

  constructor(isPacket: boolean) {
    this.#isPacket = isPacket;
  }

  /** Power-on, or a reset that keeps what is to be preserved. */
  reset(powerOn: boolean): void {
    const { preservation } = this.state;
    this.state = powerOn || !preservation ? initial : { ...this.state, power: POWER.active };
  }

  change(change: Partial<FeatureState>): true {
    this.state = { ...this.state, ...change };
    return true;
  }

  /** False: it has no such feature. */
  set({ features, count }: HostFrame): boolean {
    const value = count & 0xff;
    switch (features & 0xff) {
      case FEATURE.setTransferMode:
        return isTransferMode(value) && this.change({ transferMode: value });
      case FEATURE.enableSata:
        return this.#setSata(value, true);
      case FEATURE.disableSata:
        return this.#setSata(value, false);
      case FEATURE.disableRevert:
        return this.change({ revert: false });
      case FEATURE.enableRevert:
        return this.change({ revert: true });
      default:
        return !this.#isPacket && this.#setCache(features & 0xff);
    }
  }

  /** The access of a medium wakes it. */
  touch(): void {
    if (this.state.power !== POWER.active) this.change({ power: POWER.active });
  }

  /** The mode that a power command leads to. */
  rest(command: number): void {
    this.change({ power: POWER_AFTER[command] ?? POWER.active });
  }

  #setCache(feature: number): boolean {
    switch (feature) {
      case FEATURE.enableWriteCache:
        return this.change({ writeCache: true });
      case FEATURE.disableWriteCache:
        return this.change({ writeCache: false });
      case FEATURE.enableLookAhead:
        return this.change({ lookAhead: true });
      case FEATURE.disableLookAhead:
        return this.change({ lookAhead: false });
      default:
        return false;
    }
  }

  #setSata(feature: number, on: boolean): boolean {
    switch (feature) {
      case SATA_FEATURE.preservation:
        return this.change({ preservation: on });
      case SATA_FEATURE.notification:
        return this.#isPacket && this.change({ notification: on });
      case SATA_FEATURE.autoActivate:
      case SATA_FEATURE.devicePower:
        return true; // what it changes on a wire, nobody sees
      default:
        return false;
    }
  }
}
