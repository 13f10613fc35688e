// What a driver tells its card by the control queue: which frames to take, and what may be left
// undone in them. VIRTIO 1.2, "Control Virtqueue". Everything is checked before it is kept.
import type { NetFilter } from "../../native/types.js";
import { MAC_BYTES } from "../net/mac.js";
import { base64, fromBase64, int, record, type StateOf, toBase64, u32 } from "../state.js";
import { CONTROL, RX_MODE } from "./registers.js";

/** Our choice; a driver with more gets all frames of that kind, as Linux's own fallback. */
const MOST_ADDRESSES = 64;
const VLAN_BYTES = 4096 / 8;
/** Class and command, the lengths of two tables, and room for far more addresses than are kept. */
export const MOST_COMMAND = 16 * 1024;

export const controlState = record({
  mode: int(0, 63),
  overflow: int(0, 63),
  accepts: u32,
  mac: base64(MAC_BYTES, false),
  addresses: base64(2 * MOST_ADDRESSES * MAC_BYTES, false),
  vlans: base64(VLAN_BYTES, false),
});

export interface ControlHost {
  /** The filter is another one now. */
  filterChanged(): void;
  macChanged(): void;
  /** GUEST_OFFLOADS, as feature bits; false where they were not negotiated. */
  setOffloads(features: bigint): boolean;
  announced(): void;
}

export class NetControl {
  readonly #host: ControlHost;
  readonly #initialMac: Uint8Array;
  #mode: number = RX_MODE.promiscuous;
  /** Mode bits for kinds of addresses that had no room: theirs all pass. */
  #overflow = 0;
  #mac: Uint8Array;
  #addresses = new Uint8Array(0);
  #vlans = new Uint8Array(0);
  /** NetOffloads that the driver takes. */
  accepts = 0;

  constructor(mac: Uint8Array, host: ControlHost) {
    this.#initialMac = mac;
    this.#mac = mac;
    this.#host = host;
  }

  get mac(): Uint8Array {
    return this.#mac;
  }
  set mac(mac: Uint8Array) {
    this.#mac = mac;
    this.#host.macChanged();
    this.#host.filterChanged();
  }
  get filter(): NetFilter {
    return {
      mode: this.#mode | this.#overflow,
      mac: this.#mac,
      addresses: this.#addresses,
      vlans: this.#vlans,
    };
  }

  /** `vlans`: the driver filters tags, and begins with none. */
  start(vlans: boolean): void {
    this.#vlans = new Uint8Array(vlans ? VLAN_BYTES : 0);
    this.#host.filterChanged();
  }

  reset(): void {
    this.#mode = RX_MODE.promiscuous;
    this.#overflow = 0;
    this.#mac = this.#initialMac;
    this.#addresses = new Uint8Array(0);
    this.#vlans = new Uint8Array(0);
    this.accepts = 0;
    this.#host.macChanged();
  }

  /** False: the command is not understood, and nothing has changed. */
  command(bytes: Uint8Array): boolean {
    const [kind = -1, command = -1] = bytes;
    const data = bytes.subarray(2);
    switch (kind) {
      case CONTROL.rx.class:
        return this.#setMode(command, data);
      case CONTROL.mac.class:
        if (command === CONTROL.mac.table) return this.#setTable(data);
        return command === CONTROL.mac.address && this.#setMac(data);
      case CONTROL.vlan.class:
        return this.#setVlan(command, data);
      case CONTROL.announce.class:
        if (command === CONTROL.announce.acknowledge) this.#host.announced();
        return command === CONTROL.announce.acknowledge;
      case CONTROL.offloads.class: {
        if (command !== CONTROL.offloads.set || data.length < 8) return false;
        const view = new DataView(data.buffer, data.byteOffset, data.length);
        return this.#host.setOffloads(view.getBigUint64(0, true));
      }
      default:
        return false;
    }
  }

  save(): StateOf<typeof controlState> {
    return {
      mode: this.#mode,
      overflow: this.#overflow,
      accepts: this.accepts,
      mac: toBase64(this.#mac),
      addresses: toBase64(this.#addresses),
      vlans: toBase64(this.#vlans),
    };
  }
  restore(state: StateOf<typeof controlState>): void {
    this.#mode = state.mode;
    this.#overflow = state.overflow;
    this.accepts = state.accepts;
    const mac = fromBase64(state.mac);
    this.#mac = mac.length === MAC_BYTES ? mac : this.#initialMac;
    this.#addresses = Uint8Array.from(fromBase64(state.addresses));
    const vlans = Uint8Array.from(fromBase64(state.vlans));
    this.#vlans = vlans.length === VLAN_BYTES ? vlans : new Uint8Array(0);
    this.#host.macChanged();
  }

  #setMode(command: number, [on]: Uint8Array): boolean {
    if (command < 0 || command > CONTROL.rx.noBroadcast || on === undefined) return false;
    this.#mode = on === 0 ? this.#mode & ~(1 << command) : this.#mode | (1 << command);
    this.#host.filterChanged();
    return true;
  }

  #setMac(data: Uint8Array): boolean {
    const mac = data.slice(0, MAC_BYTES);
    if (mac.length < MAC_BYTES || (mac[0] ?? 1) & 1) return false;
    this.mac = mac;
    return true;
  }

  /** Two tables, of unicast and multicast addresses, each after its length. */
  #setTable(data: Uint8Array): boolean {
    const unicast = tableAt(data, 0);
    const multicast = unicast && tableAt(data, unicast.end);
    if (unicast === undefined || multicast === undefined) return false;
    const most = MOST_ADDRESSES * MAC_BYTES;
    const fits = ({ bytes }: { bytes: Uint8Array }): boolean => bytes.length <= most;
    const all = (table: { bytes: Uint8Array }, bit: number): number => (fits(table) ? 0 : bit);
    this.#overflow = all(unicast, RX_MODE.allUnicast) | all(multicast, RX_MODE.allMulticast);
    const kept = [unicast, multicast].filter(fits).map(({ bytes }) => bytes);
    this.#addresses = Uint8Array.from(Buffer.concat(kept));
    this.#host.filterChanged();
    return true;
  }

  #setVlan(command: number, data: Uint8Array): boolean {
    const id = (data[0] ?? 0) | ((data[1] ?? 0) << 8);
    const known = command === CONTROL.vlan.add || command === CONTROL.vlan.remove;
    if (!known || data.length < 2 || id > 4095 || this.#vlans.length === 0) return false;
    const bit = 1 << (id & 7);
    const before = this.#vlans[id >> 3] ?? 0;
    this.#vlans[id >> 3] = command === CONTROL.vlan.add ? before | bit : before & ~bit;
    this.#host.filterChanged();
    return true;
  }
}

function tableAt(data: Uint8Array, at: number): { bytes: Uint8Array; end: number } | undefined {
  if (data.length < at + 4) return undefined;
  const count = new DataView(data.buffer, data.byteOffset, data.length).getUint32(at, true);
  const end = at + 4 + count * MAC_BYTES;
  return end > data.length ? undefined : { bytes: data.slice(at + 4, end), end };
}
