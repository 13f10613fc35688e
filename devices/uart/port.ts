// A serial chip with a cable: what the guest sends goes to the backend at the other end, what comes
// from there to the guest. What places the chip's registers on a bus and its pin on a wire is the
// adapter's (ISA here, PCI in pci-uart/).
import type { DeviceHost, SerialChip, SerialWiring, Timer } from "../../native/types.js";
import type { SerialBackend } from "../serial/backend.js";
import { StateError } from "../state.js";

export interface PortOptions {
  readonly backend: SerialBackend;
  /** Runs `task` once, when a little output may have gathered. */
  readonly later?: ((task: () => void) => void) | undefined;
}

/** The chip may have changed its pin by itself. */
type Attended = () => void;

/** While a guest prints, the backend gets what it sent in a millisecond at once. Our choice. */
const GATHER_MS = 1;
/** A reader that takes nothing for so long no longer holds the guest back. Our choice. */
const STUCK_AFTER = 10_000_000_000n;
const NOTHING = new Uint8Array(0);

export class UartPort {
  readonly chip: SerialChip;
  readonly #host: Pick<DeviceHost, "clock">;
  readonly #backend: SerialBackend;
  readonly #later: (task: () => void) => void;
  readonly #attended: Attended;
  readonly #stuck: Timer;
  /** A look at the chip's output is to come. */
  #looking = false;
  /** The backend asked to hold back; the guest is held until it drains, or for STUCK_AFTER. */
  #choked = false;
  #holding = false;
  #disposed = false;

  constructor(
    host: Pick<DeviceHost, "clock" | "serial">,
    options: PortOptions,
    wiring?: SerialWiring,
    attended: Attended = () => {},
  ) {
    this.#host = host;
    this.#backend = options.backend;
    this.#later = options.later ?? ((task) => setTimeout(task, GATHER_MS));
    this.#attended = attended;
    this.#stuck = host.clock.timer(() => this.#stopHolding());
    this.chip = host.serial.uart(() => this.#attend(), wiring);
    this.#backend.onData((bytes) => this.#arrived(bytes));
    this.#backend.onDrain(() => this.#drained());
  }

  /** Hands over what the guest has sent; what it sends next is looked for in a moment. */
  flush(): void {
    if (this.#disposed || !this.#hand() || this.#looking || this.#holding) return;
    this.#looking = true;
    this.#later(() => {
      this.#looking = false;
      if (!this.#holding) this.flush();
    });
  }

  reset(): void {
    this.flush();
    this.chip.reset();
    this.#backend.accept(this.chip.receive(NOTHING));
  }

  save(): unknown {
    this.flush();
    return this.chip.save();
  }

  /** Throws StateError, and has changed nothing then. */
  restore(saved: unknown, name: string): void {
    this.flush();
    const wrong = this.chip.restore(saved);
    if (wrong !== "") throw new StateError(`${name}: ${wrong}`);
    this.#backend.accept(this.chip.receive(NOTHING));
  }

  dispose(): void {
    this.flush();
    this.#disposed = true;
    this.#stuck.cancel();
    this.chip.unplug();
    this.#backend.close();
  }

  /** False: there was nothing. */
  #hand(): boolean {
    const bytes = this.chip.take();
    if (bytes.length > 0 && !this.#backend.write(bytes)) this.#choke();
    return bytes.length > 0;
  }

  #attend(): void {
    if (this.#disposed) return;
    this.#backend.accept(this.chip.receive(NOTHING));
    if (!this.#holding) this.flush();
    this.#attended();
  }

  #arrived(bytes: Uint8Array): void {
    if (this.#disposed) return;
    this.#backend.accept(this.chip.receive(bytes));
    this.#attended();
  }

  #choke(): void {
    if (this.#choked) return;
    this.#choked = this.#holding = true;
    this.chip.hold(true);
    this.#stuck.arm(this.#host.clock.now() + STUCK_AFTER);
  }

  #drained(): void {
    this.#choked = false;
    this.#stuck.cancel();
    this.#stopHolding();
  }

  #stopHolding(): void {
    if (!this.#holding || this.#disposed) return;
    this.#holding = false;
    this.chip.hold(false);
    this.flush();
    this.#attended();
  }
}
