// What a network card is plugged into: a port that frames go through while the other end is there.
// The connection may break and come back; what a guest may leave undone in its frames stays the same.
import type { NetPort } from "../../native/types.js";

/** Bits of NetOffloads (native/types.ts). */
export const OFFLOAD = { checksum: 1, tcp4: 2, tcp6: 4, ecn: 8, udp: 16 } as const;
/** What every native port does itself where its other end does not. */
export const SOFTWARE_OFFLOADS = OFFLOAD.checksum | OFFLOAD.tcp4 | OFFLOAD.tcp6 | OFFLOAD.ecn;

export interface NetBackend {
  /** As the definition names it. */
  readonly kind: string;
  /** Where frames go, for people. */
  readonly detail: string;
  readonly offloads: number;
  /** undefined while there is nothing at the other end. */
  readonly port: NetPort | undefined;
  /** Why there is nothing. */
  readonly fault: string | undefined;
  /** Told when the port comes or goes; one listener. */
  onChange(listener: () => void): void;
  /** The port is down; it may come back, as another. */
  lost(why: string): void;
  close(): void;
}

export class NoNetwork implements NetBackend {
  readonly kind = "none";
  readonly detail = "";
  readonly offloads = SOFTWARE_OFFLOADS;
  readonly port = undefined;
  readonly fault = undefined;
  onChange(): void {}
  lost(): void {}
  close(): void {}
}

export interface PluggedOptions {
  readonly kind: string;
  readonly detail: string;
  readonly port: NetPort;
}

/** A port that is there as long as the VM: once lost, it is lost. */
export class PluggedNetwork implements NetBackend {
  readonly kind: string;
  readonly detail: string;
  readonly offloads: number;
  #port: NetPort | undefined;
  #fault: string | undefined;
  #listener: () => void = () => {};

  constructor({ kind, detail, port }: PluggedOptions) {
    this.kind = kind;
    this.detail = detail;
    this.offloads = port.offloads;
    this.#port = port;
  }

  get port(): NetPort | undefined {
    return this.#port;
  }
  get fault(): string | undefined {
    return this.#fault;
  }
  onChange(listener: () => void): void {
    this.#listener = listener;
  }
  lost(why: string): void {
    this.#fault = why;
    this.close();
    this.#listener();
  }
  close(): void {
    this.#port?.close();
    this.#port = undefined;
  }
}
