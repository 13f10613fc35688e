// What stands at the other end of a serial cable.

/** Of whoever looks: characters. */
export interface TerminalSize {
  readonly columns: number;
  readonly rows: number;
}

export interface SerialBackend {
  /**
   * Takes all of `bytes` and may keep the array. False: that was enough for now, hold back until
   * the drain listener is called. Who writes on nevertheless may lose what is over the backend's
   * bound, which `lost` counts. Never throws, never waits.
   */
  write(bytes: Uint8Array): boolean;
  /** One listener: who sits at the cable. */
  onData(listener: (bytes: Uint8Array) => void): void;
  onDrain(listener: () => void): void;
  /** False: deliver no data until true. A little more may still come. */
  accept(on: boolean): void;
  /**
   * Of one with a terminal at its end: one listener, told the size at once where it is known. A UART
   * has no line for it and does not ask; virtio-console does.
   */
  onResize?(listener: (size: TerminalSize) => void): void;
  /** Bytes of output that nobody will ever see. */
  readonly lost: number;
  close(): void;
}

/** The listeners of one backend; until they are set, data and drains go nowhere. */
export class SerialListeners {
  data: (bytes: Uint8Array) => void = () => {};
  drain: () => void = () => {};
}

/** No cable: output vanishes, as it does on a port with nothing plugged in. */
export class NoneBackend implements SerialBackend {
  readonly lost = 0;
  write(): boolean {
    return true;
  }
  onData(): void {}
  onDrain(): void {}
  accept(): void {}
  close(): void {}
}
