// A native machine for tests: no vCPU runs, a test plays the guest through the bus of devices/
// fakes, and every call of the lifecycle is remembered in order.
import { FakeHost } from "../devices/fakes.js";
import { FakeNet } from "../devices/net/fakes.js";
import type {
  AcceleratorInfo,
  Machine,
  MachineEvent,
  MachineStatistics,
  SavedComponent,
} from "../native/types.js";

const powerOn = (): Record<string, unknown> => ({ rip: 0xfff0, cr0: 0x6000_0010, tr: "kept" });

export class FakeMachine extends FakeHost implements Machine {
  readonly accelerator: AcceleratorInfo = { name: "fake", usable: true, reason: "a test's" };
  readonly calls: string[] = [];
  readonly net = new FakeNet(this.memory);
  /** What setVcpu() left, or what reset() put there. */
  cpu: Record<string, unknown> = powerOn();
  /** pause() takes so long as a test wants. */
  parked: Promise<void> = Promise.resolve();
  #listener: (event: MachineEvent) => void = () => {};

  start(): void {
    this.calls.push("start");
  }
  pause(): Promise<void> {
    this.calls.push("pause");
    return this.parked;
  }
  resume(): void {
    this.calls.push("resume");
  }
  reset(): void {
    this.calls.push("reset");
    this.cpu = powerOn();
  }
  async destroy(): Promise<void> {
    this.calls.push("destroy");
  }
  nmi(): void {}
  setA20(): void {}
  vcpu(): SavedComponent {
    return { version: 1, state: this.cpu };
  }
  /** The others wait all the time: only the first one's state is kept. */
  setVcpu(index: number, saved: SavedComponent): void {
    if (index === 0) this.cpu = saved.state as Record<string, unknown>;
  }
  save(): Record<string, SavedComponent> {
    return { cpu0: this.vcpu() };
  }
  restore(components: Readonly<Record<string, SavedComponent>>): void {
    if (components.cpu0 === undefined) throw new Error("cpu0: missing");
    this.setVcpu(0, components.cpu0);
  }
  statistics(): MachineStatistics {
    return { vcpus: [{ instructions: 1 }], bus: {} };
  }
  onEvent(listener: (event: MachineEvent) => void): void {
    this.#listener = listener;
  }
  /** What the core would tell. */
  tell(event: MachineEvent): void {
    this.#listener(event);
  }
}
