// Which interrupt an INTx pin is: one rule for the wires here, the _PRT of the DSDT and the MP
// table, so that no table can say other than the machine does.
import type { InterruptLine, Interrupts } from "../../native/types.js";

/** 1 to 4 for INTA to INTD, as in the Interrupt Pin register. */
export type IntxPin = 1 | 2 | 3 | 4;

const PIRQ_COUNT = 8;
const FIRST_PCI_GSI = 16;

/** PIRQ A to H as 0 to 7, for every slot and pin. */
export const pirqOf = (slot: number, pin: IntxPin): number => (slot + pin) & (PIRQ_COUNT - 1);
export const gsiOf = (slot: number, pin: IntxPin): number => FIRST_PCI_GSI + pirqOf(slot, pin);

/** Function 0 has INTA, 1 INTB and so on: our choice; the specification wants INTA for the first. */
export const pinOf = (fn: number): IntxPin => ((fn & 3) + 1) as IntxPin;

/** Intel PIIX3/ICH, "PIRQx Route Control Registers": bit 7 no routing, bits 3:0 the IRQ. */
export const PIRQ_REGISTERS = [0x60, 0x61, 0x62, 0x63, 0x68, 0x69, 0x6a, 0x6b] as const;
const PIRQ_DISABLED = 0x80;
/** IRQs 3 to 7, 9 to 12, 14 and 15 may be routed to. */
const ROUTABLE_IRQS = 0xdef8;
/** What firmware would have chosen: IRQs that no ISA device of the machine holds. */
export const PIRQ_DEFAULTS = [10, 11, 5, 6, 10, 11, 5, 6] as const;

const routedIrq = (control: number): number | undefined => {
  const irq = control & 0x0f;
  const valid = !(control & PIRQ_DISABLED) && (ROUTABLE_IRQS >> irq) & 1;
  return valid ? irq : undefined;
};

class Pirq {
  readonly #interrupts: Interrupts;
  readonly #sources = new Set<InterruptLine>();
  readonly #outputs = new Map<number, InterruptLine>();
  #output: InterruptLine | undefined;

  constructor(interrupts: Interrupts) {
    this.#interrupts = interrupts;
  }

  route(irq: number | undefined): void {
    const output = irq === undefined ? undefined : this.#to(irq);
    if (output !== this.#output) this.#output?.set(false);
    this.#output = output;
    this.#drive();
  }

  source(): InterruptLine {
    const source: InterruptLine = {
      set: (level) => {
        if (level) this.#sources.add(source);
        else this.#sources.delete(source);
        this.#drive();
      },
      pulse: () => {
        source.set(true);
        source.set(false);
      },
    };
    return source;
  }

  #to(irq: number): InterruptLine {
    const line = this.#outputs.get(irq) ?? this.#interrupts.pic(irq);
    this.#outputs.set(irq, line);
    return line;
  }
  #drive(): void {
    this.#output?.set(this.#sources.size > 0);
  }
}

/** The PIRQ router and the IO-APIC pins beside it. The LPC bridge keeps its registers. */
export class IntxRouter {
  readonly #interrupts: Interrupts;
  readonly #pirqs: readonly Pirq[];

  constructor(interrupts: Interrupts) {
    this.#interrupts = interrupts;
    this.#pirqs = PIRQ_DEFAULTS.map(() => new Pirq(interrupts));
    this.reset();
  }

  /** As firmware leaves it; from then on the ELCR is the guest's, whatever it routes where. */
  reset(): void {
    for (const [index, irq] of PIRQ_DEFAULTS.entries()) {
      this.route(index, irq);
      this.#interrupts.trigger(irq, true);
    }
  }

  /** `control` as written to the PIRQ's register. */
  route(pirq: number, control: number): void {
    this.#pirqs[pirq]?.route(routedIrq(control));
  }

  /** One function's wire: it reaches the 8259 by its PIRQ, and its own IO-APIC pin. */
  line(slot: number, pin: IntxPin): InterruptLine {
    const outputs = [
      this.#interrupts.ioapic(gsiOf(slot, pin)),
      this.#pirqs[pirqOf(slot, pin)]?.source(),
    ];
    return {
      set: (level) => {
        for (const output of outputs) output?.set(level);
      },
      pulse: () => {
        for (const output of outputs) output?.pulse();
      },
    };
  }
}
