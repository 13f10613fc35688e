// One port of the HBA: AHCI 1.3.1, "HBA State Machine (Normative)", as far as software sees it. It
// takes commands from the guest's list, hands them to the device behind it, and puts the frames that
// the device answers with where the guest wants them.
//
//   stopped ── PxCMD.ST ──▶ running ── error ──▶ halted (PxCI as it was) ── ST cleared ──▶ stopped
//
// Commands that are not queued are alone: BSY is set from their start to their end. Queued ones
// (NCQ) are accepted at once, and may be 32 under way.
import type { GuestMemory } from "../../native/types.js";
import { RegisterFile } from "../registers.js";
import { flag, int, list, record, StateError, type StateOf, u32 } from "../state.js";
import { ERROR, isQueued, READY, STATUS } from "./ata.js";
import { type DataFault, fetchCommand, reportTransferred, type SlotCommand } from "./command.js";
import type { DeviceLink, Ending, SataDevice } from "./device.js";
import { failed } from "./endings.js";
import {
  deviceToHost,
  pioSetup,
  RECEIVED,
  SET_BITS_STATUS,
  setDeviceBits,
  type TaskFile,
} from "./fis.js";
import {
  CMD,
  DET,
  IS,
  KEPT_AT_RESET,
  NO_DEVICE_STATUS,
  NO_SIGNATURE,
  PORT,
  type PortRegister,
  SERR,
  SLOTS,
  SSTS,
} from "./registers.js";

export interface PortHost {
  readonly memory: GuestMemory;
  /** PxIS or PxIE changed. */
  interruptsChanged(): void;
  /** A register has this value now. */
  publish(at: number, value: number): void;
  log(text: string): void;
}

export const portState = record({
  registers: record(
    Object.fromEntries(Object.keys(PORT).map((name) => [name, u32])) as Record<
      PortRegister,
      typeof u32
    >,
  ),
  halted: flag,
  heldInReset: flag,
  /** The signature waits for FIS reception to be enabled. */
  signatureWaits: flag,
  signature: list(int(0, 2 ** 48), 5, 5),
  /** Slots whose commands the device has. */
  underway: u32,
  device: ((value) => value) as (value: unknown, path: string) => unknown,
});
export type PortState = StateOf<typeof portState>;

const bit = (slot: number): number => (1 << slot) >>> 0;

export class Port {
  readonly #host: PortHost;
  readonly #device: SataDevice;
  readonly #registers: RegisterFile<PortRegister>;
  /** Slots whose commands the device has, and those of them that are queued. */
  #underway = 0;
  #queued = 0;
  /** Queued commands that have ended since the guest was told last. */
  #done = 0;
  #telling = false;
  /** After an error, until PxCMD.ST is cleared. */
  #halted = false;
  /** Between the two frames of a software reset. */
  #heldInReset = false;
  #signature: TaskFile | undefined;
  #last: TaskFile = { status: 0, error: 0, count: 0, lba: 0, device: 0 };
  #resting = false;
  /** Of a saved state: to be given to the device again at wake(). */
  #again = 0;
  /** What ends after its generation is of a command that was cancelled. */
  #generation = 0;

  constructor(host: PortHost, create: (link: DeviceLink) => SataDevice) {
    this.#host = host;
    this.#registers = new RegisterFile(
      PORT,
      {
        cmd: (now, before) => this.#commandWritten(now, before),
        sctl: (now, before) => this.#controlWritten(now, before),
        serr: () => this.#mirrorErrors(),
        is: () => host.interruptsChanged(),
        ie: () => host.interruptsChanged(),
      },
      (name, value) => host.publish(PORT[name].at, value),
    );
    this.#device = create({
      notify: () => this.#notified(),
      log: (text) => host.log(text),
    });
    this.powerOn();
  }

  get interrupting(): boolean {
    return (this.#get("is") & this.#get("ie")) !== 0;
  }

  read(offset: number, size: number): number {
    return this.#registers.read(offset, size);
  }

  write(offset: number, size: number, value: number): void {
    const word = offset & ~3;
    const shifted = (value << (8 * (offset & 3))) >>> 0;
    if (word === PORT.ci.at) this.issue(shifted);
    else if (word === PORT.sact.at) this.#activate(shifted);
    else this.#registers.write(offset, size, value);
  }

  /** "Port x Command Issue": bits are set by software, cleared by the device's answers. */
  issue(slots: number): void {
    if (!(this.#get("cmd") & CMD.start)) return;
    this.#set("ci", this.#get("ci") | slots);
    this.#process();
  }

  /** The link comes up after power-on or a reset; the device says what it is. */
  connect(): void {
    this.#forget();
    this.#heldInReset = false;
    this.#set("ssts", SSTS.active);
    this.#set("sig", NO_SIGNATURE);
    this.#set("tfd", STATUS.busy);
    this.#raise(0, SERR.exchanged | SERR.phyReady);
    this.#answerReset(true);
  }

  /** "HBA Reset" */
  reset(): void {
    const kept = KEPT_AT_RESET.map((name) => [name, this.#get(name)] as const);
    this.#registers.reset();
    for (const [name, value] of kept) this.#set(name, value);
    this.connect();
  }

  powerOn(): void {
    this.#registers.reset();
    this.connect();
    // Firmware would have looked at the port: no exchange is news to the guest.
    this.#set("serr", 0);
    this.#mirrorErrors();
  }

  async rest(): Promise<void> {
    this.#resting = true;
    await this.#device.idle();
    this.#tell();
  }

  wake(): void {
    this.#resting = false;
    const again = this.#again;
    this.#again = 0;
    for (let slot = 0; slot < SLOTS && !this.#halted; slot++)
      if (again & bit(slot)) this.#begin(slot, true);
    this.#process();
  }

  save(): PortState {
    const { status, error, count, lba, device } = this.#signature ?? this.#last;
    return {
      registers: Object.fromEntries(
        this.#registers.names().map((name) => [name, this.#get(name)]),
      ) as PortState["registers"],
      halted: this.#halted,
      heldInReset: this.#heldInReset,
      signatureWaits: this.#signature !== undefined,
      signature: [status, error, count, lba, device],
      underway: (this.#underway | this.#again) >>> 0,
      device: this.#device.save(),
    };
  }

  /** In two steps, so that what refuses has changed nothing. */
  prepareRestore(state: PortState, path: string): () => void {
    const restoreDevice = this.#device.restore(state.device, `${path}.device`);
    if (state.underway !== 0 && !(state.registers.cmd & CMD.start))
      throw new StateError(`${path}.underway: of a port that is stopped`);
    return () => {
      this.#forget();
      for (const name of this.#registers.names()) this.#set(name, state.registers[name]);
      this.#halted = state.halted;
      this.#heldInReset = state.heldInReset;
      const [status = 0, error = 0, count = 0, lba = 0, device = 0] = state.signature;
      const file = { status, error, count, lba, device };
      this.#signature = state.signatureWaits ? file : undefined;
      this.#last = file;
      this.#again = state.underway;
      restoreDevice();
    };
  }

  dispose(): void {
    this.#generation++;
    this.#device.dispose();
  }

  #get(name: PortRegister): number {
    return this.#registers.get(name);
  }
  #set(name: PortRegister, value: number): void {
    this.#registers.set(name, value);
  }
  #address(low: "clb" | "fb", high: "clbu" | "fbu"): number {
    return this.#get(high) * 2 ** 32 + this.#get(low);
  }
  get #list(): number {
    return this.#address("clb", "clbu");
  }

  #activate(slots: number): void {
    if (this.#get("cmd") & CMD.start) this.#set("sact", this.#get("sact") | slots);
  }

  /** "Port x Command and Status": what follows ST, FRE and CLO. */
  #commandWritten(now: number, before: number): void {
    if (now & CMD.listOverride && !(before & CMD.start))
      this.#set("tfd", this.#get("tfd") & ~(STATUS.busy | STATUS.dataRequest));
    let value = now & ~(CMD.listOverride | CMD.powerStates);
    value = now & CMD.receive ? value | CMD.receiving : value & ~CMD.receiving;
    value = now & CMD.start ? value | CMD.running : value & ~(CMD.running | CMD.currentSlot);
    this.#set("cmd", value);
    if (now & CMD.receive && !(before & CMD.receive)) this.#receiveSignature();
    if (before & CMD.start && !(now & CMD.start)) this.#stop();
    if (now & CMD.start) this.#process();
  }

  /** Commands under way are given up: "PxCI … is cleared when PxCMD.ST is written from 1 to 0". */
  #stop(): void {
    const busy = this.#underway & ~this.#queued;
    this.#forget();
    this.#set("ci", 0);
    this.#set("sact", 0);
    // The device gives up with the transfer that is broken off, and is at rest.
    if (busy) this.#set("tfd", READY);
  }

  /** "Software Reset of a port": DET goes to 1, then to 0; only while the port is stopped. */
  #controlWritten(now: number, before: number): void {
    const [is, was] = [now & DET.mask, before & DET.mask];
    if (is === was || this.#get("cmd") & CMD.start) return;
    if (is === DET.none) {
      this.connect();
      return;
    }
    this.#forget();
    this.#signature = undefined;
    this.#set("ssts", is === DET.offline ? SSTS.offline : SSTS.none);
    this.#set("tfd", NO_DEVICE_STATUS);
    this.#set("sig", NO_SIGNATURE);
  }

  #forget(): void {
    this.#generation++;
    if (this.#underway) this.#device.cancel();
    this.#underway = 0;
    this.#queued = 0;
    this.#done = 0;
    this.#again = 0;
    this.#halted = false;
  }

  #process(): void {
    for (;;) {
      const slot = this.#next();
      if (slot === undefined || !this.#begin(slot, false)) return;
    }
  }

  /** "the HBA … shall issue commands … in order", starting behind the one issued last. */
  #next(): number | undefined {
    const busy = this.#get("tfd") & (STATUS.busy | STATUS.dataRequest);
    const waiting = this.#get("ci") & ~this.#underway;
    const command = this.#get("cmd");
    if (!waiting || busy || this.#halted || this.#resting || !(command & CMD.start))
      return undefined;
    const current = (command & CMD.currentSlot) >> 8;
    for (let step = 1; step <= SLOTS; step++) {
      const slot = (current + step) % SLOTS;
      if (waiting & bit(slot)) return slot;
    }
    return undefined;
  }

  /** False where nothing else can be begun. */
  #begin(slot: number, again: boolean): boolean {
    this.#set("cmd", (this.#get("cmd") & ~CMD.currentSlot) | (slot << 8));
    const command = fetchCommand(this.#host.memory, this.#list, slot);
    if (command === "bus") return this.#fatal(IS.busFatal, "its command is not in memory");
    if (command === "frame")
      return this.#fatal(IS.interfaceFatal, "its command FIS is none", SERR.handshake);
    if (!command.frame.isCommand) return this.#control(command);
    this.#underway = (this.#underway | bit(slot)) >>> 0;
    if (isQueued(command.frame.command)) {
      this.#queued = (this.#queued | bit(slot)) >>> 0;
      if (!again) this.#accept(command);
    } else this.#set("tfd", this.#get("tfd") | STATUS.busy);
    this.#execute(command);
    return true;
  }

  #execute(command: SlotCommand): void {
    const generation = this.#generation;
    if (this.#queued !== 0 && !isQueued(command.frame.command)) {
      // ACS-3, "NCQ feature set": another command amid queued ones aborts them all, and itself.
      this.#device.cancel();
      this.#queued = 0;
      this.#endAlone(command, failed(ERROR.abort));
      return;
    }
    this.#device.execute(command, (ending) => {
      if (generation === this.#generation) this.#ended(command, ending);
    });
  }

  /** The Control register: "Software Reset". */
  #control({ slot, frame, clearBusy }: SlotCommand): boolean {
    const left = this.#get("ci") & ~bit(slot);
    if (frame.softReset) {
      this.#forget();
      this.#heldInReset = true;
      this.#set("tfd", (this.#get("tfd") & ~0xff) | (clearBusy ? READY : STATUS.busy));
    } else if (this.#heldInReset) {
      this.#heldInReset = false;
      this.#answerReset(false);
    }
    this.#set("ci", left);
    return true;
  }

  /** "Device Signatures": posted when FIS reception is on. */
  #answerReset(hard: boolean): void {
    this.#signature = this.#device.reset(hard);
    if (this.#get("cmd") & CMD.receive) this.#receiveSignature();
  }
  #receiveSignature(): void {
    const file = this.#signature;
    if (file === undefined) return;
    this.#signature = undefined;
    this.#set("sig", this.#device.signature);
    this.#showFile(file);
    this.#receive(RECEIVED.deviceToHost, deviceToHost(file, false));
    this.#process();
  }

  /** A queued command is taken: BSY clears, and the slot is the device's until its SDB FIS. */
  #accept({ slot }: SlotCommand): void {
    this.#set("ci", this.#get("ci") & ~bit(slot));
    const file = { status: READY, error: 0, count: 0, lba: 0, device: 0 };
    this.#receive(RECEIVED.deviceToHost, deviceToHost(file, false));
  }

  #ended(command: SlotCommand, ending: Ending | DataFault): void {
    if (ending === "bus") {
      this.#fatal(IS.busFatal, "its data are not in memory");
      return;
    }
    if (ending === "overflow") {
      this.#fatal(IS.overflow | IS.interfaceFatal, "its data do not fit", SERR.protocol);
      return;
    }
    if (command.data.marked) this.#raise(IS.descriptor);
    if (this.#queued & bit(command.slot)) this.#endQueued(command, ending);
    else this.#endAlone(command, ending);
  }

  #endAlone({ slot }: SlotCommand, { file, transferred, pioIn = false }: Ending): void {
    const { memory } = this.#host;
    this.#underway = 0;
    const failed = (file.status & STATUS.error) !== 0;
    if (!reportTransferred(memory, this.#list, slot, transferred)) {
      this.#fatal(IS.busFatal, "its list is not in memory");
      return;
    }
    const [interrupt, at, bytes] =
      pioIn && !failed
        ? [IS.pioSetup, RECEIVED.pioSetup, pioSetup(file, READY | STATUS.dataRequest, transferred)]
        : [IS.d2h, RECEIVED.deviceToHost, deviceToHost(file, true)];
    this.#receive(at, bytes);
    this.#showFile(file);
    if (failed) this.#halted = true;
    else this.#set("ci", this.#get("ci") & ~bit(slot));
    this.#raise(interrupt | (failed ? IS.taskFile : 0));
    this.#process();
  }

  /** Those that end in one turn are told of in one frame. */
  #endQueued({ slot }: SlotCommand, { file }: Ending): void {
    this.#underway = (this.#underway & ~bit(slot)) >>> 0;
    if (file.status & STATUS.error) {
      this.#tell(file);
      return;
    }
    this.#queued = (this.#queued & ~bit(slot)) >>> 0;
    this.#done = (this.#done | bit(slot)) >>> 0;
    if (this.#telling) return;
    this.#telling = true;
    queueMicrotask(() => this.#tell());
  }

  /** A "Set Device Bits" FIS; with `failure`, the last one until the guest has seen to it. */
  #tell(failure?: TaskFile): void {
    this.#telling = false;
    const done = this.#done;
    if (done === 0 && failure === undefined) return;
    this.#done = 0;
    const file = failure ?? { status: READY, error: 0 };
    this.#receive(RECEIVED.setDeviceBits, setDeviceBits(file, done));
    const kept = this.#get("tfd") & 0xff & ~SET_BITS_STATUS;
    this.#set("tfd", (file.error << 8) | kept | (file.status & SET_BITS_STATUS));
    this.#set("sact", this.#get("sact") & ~done);
    if (failure !== undefined) this.#halt();
    this.#raise(IS.setDeviceBits | (failure === undefined ? 0 : IS.taskFile));
    this.#process();
  }

  /** "Asynchronous Notification" */
  #notified(): void {
    if (!(this.#get("cmd") & CMD.receive)) return;
    const [error, status] = [this.#get("tfd") >> 8, this.#get("tfd") & 0xff];
    this.#receive(RECEIVED.setDeviceBits, setDeviceBits({ status, error }, 0, true));
    this.#set("sntf", this.#get("sntf") | 1);
    this.#raise(IS.setDeviceBits);
  }

  /** Nothing is done any more until ST is cleared; what was under way does not end. */
  #halt(): void {
    this.#generation++;
    this.#device.cancel();
    this.#underway = 0;
    this.#queued = 0;
    this.#halted = true;
  }

  #fatal(interrupts: number, why: string, errors = 0): false {
    const slot = (this.#get("cmd") & CMD.currentSlot) >> 8;
    this.#host.log(`slot ${slot}: ${why}`);
    const alone = (this.#underway & ~this.#queued) !== 0;
    this.#halt();
    if (alone) this.#set("tfd", (this.#get("tfd") & ~0xff) | READY);
    this.#raise(interrupts, errors);
    return false;
  }

  #showFile(file: TaskFile): void {
    this.#last = file;
    this.#set("tfd", (file.error << 8) | file.status);
  }

  /** Into the guest's structure of received frames; where that is not in memory, a bus error. */
  #receive(at: number, bytes: Uint8Array): void {
    if (!(this.#get("cmd") & CMD.receive)) return;
    const base = this.#address("fb", "fbu");
    if (!this.#host.memory.write(base + at, bytes)) this.#raise(IS.busFatal);
  }

  #raise(interrupts: number, errors = 0): void {
    if (errors) this.#set("serr", this.#get("serr") | errors);
    this.#set("is", this.#get("is") | interrupts);
    this.#mirrorErrors();
  }

  /** PCS, PRCS and UFS are what PxSERR says, and are cleared there. */
  #mirrorErrors(): void {
    const errors = this.#get("serr");
    const mirrored =
      (errors & SERR.exchanged ? IS.connect : 0) |
      (errors & SERR.phyReady ? IS.phyReady : 0) |
      (errors & SERR.unknownFrame ? IS.unknownFrame : 0);
    const own = this.#get("is") & ~(IS.connect | IS.phyReady | IS.unknownFrame);
    this.#set("is", own | mirrored);
    this.#host.interruptsChanged();
  }
}
