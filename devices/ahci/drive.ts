// A CD and DVD drive behind an AHCI port: ACS-3, "PACKET feature set", with the commands of SPC-4
// and MMC-6 in its packets. One command at a time, as the transport has it.
import type { BlockBackend } from "../block/backend.js";
import { record } from "../state.js";
import { COMMAND, DIAGNOSTIC_PASSED, ERROR, READY, SIGNATURE, STATUS } from "./ata.js";
import type { CommandData, SlotCommand } from "./command.js";
import type { DeviceLink, Ending, Finish, SataDevice } from "./device.js";
import { done, failed, sendPio } from "./endings.js";
import { Features, featureState } from "./features.js";
import type { HostFrame, TaskFile } from "./fis.js";
import { identifyPacket } from "./identify.js";
import {
  capacity,
  configuration,
  discInformation,
  eventStatus,
  formatCapacities,
  inquiry,
  luns,
  mechanismStatus,
  modeSense,
  OPERATION,
  PAGE_CONTROL,
  tableOfContents,
  trackInformation,
  vitalData,
} from "./mmc.js";
import { SENSE, type Sense, senseData, senseState } from "./sense.js";
import { BLOCK, type Medium, Tray, trayState } from "./tray.js";

export interface CdDriveOptions {
  readonly medium: Medium | undefined;
  readonly serial: string;
  readonly model: string;
}

/** A disc that is only opened when it is let in. */
export interface NextMedium {
  readonly label: string;
  open(): BlockBackend;
}

/** "Interrupt reason" in Count: the command has ended. */
const ENDED = 0x03;
/** PACKET, Features: data by DMA. */
const BY_DMA = 0x01;

const STATE = record({ features: featureState, tray: trayState, sense: senseState });

type Answer = Uint8Array | Sense | undefined;

/** What a packet asks for: its operation, and big-endian numbers in it. */
class Packet {
  readonly #view: DataView;
  constructor(bytes: Uint8Array) {
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }
  byte(at: number): number {
    return this.#view.getUint8(at);
  }
  short(at: number): number {
    return this.#view.getUint16(at);
  }
  long(at: number): number {
    return this.#view.getUint32(at);
  }
}

/** How many bytes the host takes of an answer, and at once what the answer is. */
interface Row {
  readonly allocation: (packet: Packet) => number;
  readonly answer: (packet: Packet) => Answer;
  /** It needs a disc. */
  readonly medium?: true;
  /** It ends well even when there is a unit attention, and leaves that as it is. */
  readonly always?: true;
}

const nothing = (): number => 0;
const byteAt =
  (at: number) =>
  (packet: Packet): number =>
    packet.byte(at);
const shortAt =
  (at: number) =>
  (packet: Packet): number =>
    packet.short(at);
const longAt =
  (at: number) =>
  (packet: Packet): number =>
    packet.long(at);

export class CdDrive implements SataDevice {
  readonly signature = SIGNATURE.packet;
  readonly #options: CdDriveOptions;
  readonly #link: DeviceLink;
  readonly #features = new Features(true);
  readonly #tray: Tray;
  readonly #rows: ReadonlyMap<number, Row>;
  #sense: Sense = SENSE.none;
  /** Ends the read that is under way, if its disc is taken away. */
  #reading: Finish | undefined;

  constructor(options: CdDriveOptions, link: DeviceLink) {
    this.#options = options;
    this.#link = link;
    this.#tray = new Tray(options.medium);
    this.#rows = this.#table();
  }

  get tray(): Pick<Tray, "label" | "isOpen" | "locked"> {
    return this.#tray;
  }

  /**
   * The button at the front, then another disc or none. False: the guest has locked the door; it is
   * asked to open it. What is under way on the old disc fails.
   */
  exchange(next: NextMedium | undefined, force: boolean): boolean {
    const locked = this.#tray.locked && !force;
    if (locked) this.#tray.requestEject();
    else this.#replace(next && { label: next.label, backend: next.open() });
    if (this.#features.state.notification) this.#link.notify();
    return !locked;
  }

  execute(command: SlotCommand, finish: Finish): void {
    const { frame, data } = command;
    switch (frame.command) {
      case COMMAND.packet:
        this.#packet(command, finish);
        break;
      case COMMAND.identifyPacket: {
        const { serial, model } = this.#options;
        sendPio(data, identifyPacket(serial, model, this.#features.state), finish);
        break;
      }
      default:
        finish(this.#control(frame));
    }
  }

  cancel(): void {
    this.#reading = undefined;
    this.#tray.medium?.cancel();
  }

  reset(hard: boolean): TaskFile {
    if (hard) {
      this.#features.reset(false);
      this.#tray.reset();
      this.#sense = SENSE.none;
    }
    return signatureFile(0);
  }

  async idle(): Promise<void> {
    await this.#tray.medium?.idle();
  }

  save(): unknown {
    return { features: this.#features.state, tray: this.#tray.save(), sense: this.#sense };
  }

  restore(state: unknown, path: string): () => void {
    const { features, tray, sense } = STATE(state, path);
    return () => {
      this.#features.state = features;
      this.#tray.restore(tray);
      this.#sense = sense;
    };
  }

  dispose(): void {
    this.#tray.dispose();
  }

  #replace(medium: Medium | undefined): void {
    const finish = this.#reading;
    this.#reading = undefined;
    const before = this.#tray.exchange(medium);
    before?.backend.close();
    if (finish) this.#check(SENSE.noMediumTrayOpen, finish);
  }

  /** Commands that are no packets. */
  #control(frame: HostFrame): Ending {
    switch (frame.command) {
      case COMMAND.deviceReset:
      case COMMAND.diagnostic:
        return { file: signatureFile(0), transferred: 0 };
      case COMMAND.identify:
      case COMMAND.readSectors:
        // "Device Signatures": how a packet device says what it is to who takes it for a disk.
        return {
          file: { ...signatureFile(READY | STATUS.error), error: ERROR.abort },
          transferred: 0,
        };
      case COMMAND.setFeatures:
        return this.#features.set(frame) ? done() : failed(ERROR.abort);
      case COMMAND.checkPower:
        return done({ count: this.#features.state.power });
      case COMMAND.standby:
      case COMMAND.standbyImmediate:
      case COMMAND.idle:
      case COMMAND.idleImmediate:
      case COMMAND.sleep:
        this.#features.rest(frame.command);
        return done();
      default:
        return failed(ERROR.abort);
    }
  }

  #packet({ frame, packet: bytes, data }: SlotCommand, finish: Finish): void {
    const packet = new Packet(bytes);
    const limit = Math.floor(frame.lba / 256) & 0xffff;
    // "Byte count limit": by PIO, 0 is none that data could come in.
    if (!(frame.features & BY_DMA) && limit === 0 && this.#asksForData(packet)) {
      finish(failed(ERROR.abort));
      return;
    }
    const row = this.#rows.get(packet.byte(0));
    const attention = row?.always ? undefined : this.#tray.takeAttention();
    if (row === undefined) this.#check(SENSE.badOpcode, finish);
    else if (attention) this.#check(attention, finish);
    else if (row.medium && !this.#tray.medium) this.#check(this.#tray.missing, finish);
    else if (isRead(packet)) this.#read(packet, data, finish);
    else this.#answer(row, packet, data, finish);
  }

  #asksForData(packet: Packet): boolean {
    const row = this.#rows.get(packet.byte(0));
    return isRead(packet) || (row !== undefined && row.allocation(packet) > 0);
  }

  #answer(row: Row, packet: Packet, data: CommandData, finish: Finish): void {
    const answer = row.answer(packet);
    if (answer !== undefined && !(answer instanceof Uint8Array)) {
      this.#check(answer, finish);
      return;
    }
    const taken = (answer ?? new Uint8Array(0)).subarray(0, row.allocation(packet));
    const moved = data.write(taken);
    finish(typeof moved === "string" ? moved : this.#good(moved));
  }

  #good(moved: number): Ending {
    this.#sense = SENSE.none;
    return done({ count: ENDED }, moved);
  }

  /** "CHECK CONDITION": the sense key is in the error register, too. */
  #check(sense: Sense, finish: Finish): void {
    this.#sense = sense;
    const ending = failed((sense.key << 4) | ERROR.abort);
    finish({ ...ending, file: { ...ending.file, count: ENDED } });
  }

  #read(packet: Packet, data: CommandData, finish: Finish): void {
    const medium = this.#tray.medium;
    const [first, blocks] = extentOf(packet);
    const length = blocks * BLOCK;
    if (packet.byte(0) === OPERATION.readCd && !wantsUserData(packet)) {
      this.#check(SENSE.badField, finish);
      return;
    }
    if (medium === undefined || first + blocks > this.#tray.blocks) {
      this.#check(SENSE.outOfRange, finish);
      return;
    }
    const pieces = data.pieces(length);
    if (typeof pieces === "string" || length === 0) {
      finish(typeof pieces === "string" ? pieces : this.#good(0));
      return;
    }
    this.#features.touch();
    this.#reading = finish;
    medium.read(first * BLOCK, length, pieces, (errno) => {
      if (this.#reading !== finish) return;
      this.#reading = undefined;
      if (errno === 0) finish(this.#good(length));
      else this.#unreadable(first, errno, finish);
    });
  }

  #unreadable(block: number, errno: number, finish: Finish): void {
    this.#link.log(`block ${block} of the medium: the host's error ${errno}`);
    this.#check(SENSE.unreadable, finish);
  }

  #table(): ReadonlyMap<number, Row> {
    const tray = this.#tray;
    const { serial } = this.#options;
    const none = { allocation: nothing, answer: () => undefined };
    const read: Row = { ...none, medium: true };
    return new Map<number, Row>([
      [OPERATION.testUnitReady, { ...none, medium: true }],
      [
        OPERATION.requestSense,
        { allocation: byteAt(4), answer: () => this.#requestSense(), always: true },
      ],
      [
        OPERATION.inquiry,
        {
          allocation: shortAt(3),
          answer: (packet) => {
            if (packet.byte(1) & 1) return vitalData(packet.byte(2), serial) ?? SENSE.badField;
            return packet.byte(2) === 0 ? inquiry() : SENSE.badField;
          },
          always: true,
        },
      ],
      [OPERATION.startStop, { ...none, answer: (packet) => this.#startStop(packet.byte(4)) }],
      [
        OPERATION.preventAllow,
        { ...none, answer: (packet) => void tray.lock((packet.byte(4) & 1) !== 0) },
      ],
      [
        OPERATION.readFormatCapacities,
        { allocation: shortAt(7), answer: () => formatCapacities(tray.blocks) },
      ],
      [
        OPERATION.readCapacity,
        { allocation: () => 8, answer: () => capacity(tray.blocks), medium: true },
      ],
      [OPERATION.read10, read],
      [OPERATION.read12, read],
      [OPERATION.readCd, read],
      [OPERATION.seek10, { ...none, medium: true }],
      [OPERATION.verify10, { ...none, medium: true }],
      [OPERATION.synchronizeCache, none],
      [OPERATION.setSpeed, none],
      [
        OPERATION.readToc,
        { allocation: shortAt(7), answer: (packet) => this.#toc(packet), medium: true },
      ],
      [
        OPERATION.getConfiguration,
        {
          allocation: shortAt(7),
          answer: (packet) => {
            const type = packet.byte(1) & 3;
            return type === 3 ? SENSE.badField : configuration(type, packet.short(2), tray.blocks);
          },
          always: true,
        },
      ],
      [
        OPERATION.eventStatus,
        { allocation: shortAt(7), answer: (packet) => this.#events(packet), always: true },
      ],
      [
        OPERATION.readDiscInformation,
        {
          allocation: shortAt(7),
          answer: (packet) => (packet.byte(1) & 7 ? SENSE.badField : discInformation()),
          medium: true,
        },
      ],
      [
        OPERATION.readTrackInformation,
        { allocation: shortAt(7), answer: () => trackInformation(tray.blocks), medium: true },
      ],
      [
        OPERATION.modeSense10,
        {
          allocation: shortAt(7),
          answer: (packet) => {
            const control = packet.byte(2) >> 6;
            if (control === PAGE_CONTROL.saved) return SENSE.savingUnsupported;
            return modeSense(control, packet.byte(2) & 0x3f, tray.locked) ?? SENSE.badField;
          },
        },
      ],
      [OPERATION.reportLuns, { allocation: longAt(6), answer: luns, always: true }],
      [
        OPERATION.mechanismStatus,
        { allocation: shortAt(8), answer: () => mechanismStatus(tray.isOpen) },
      ],
    ]);
  }

  /** What there is to say, a unit attention before all; it is said once. */
  #requestSense(): Uint8Array {
    const sense = this.#sense.key === 0 ? this.#tray.takeAttention() : this.#sense;
    this.#sense = SENSE.none;
    return senseData(sense ?? SENSE.none);
  }

  /** "START STOP UNIT": LoEj (bit 1) with Start (bit 0) loads, without it ejects. */
  #startStop(bits: number): Answer {
    if (!(bits & 2)) return bits & 1 && !this.#tray.medium ? this.#tray.missing : undefined;
    if (this.#tray.locked && !(bits & 1)) return SENSE.removalPrevented;
    this.#tray.move((bits & 1) === 0);
    return undefined;
  }

  #toc(packet: Packet): Answer {
    const msf = (packet.byte(1) & 2) !== 0;
    const format = packet.byte(2) & 0x0f || packet.byte(9) >> 6;
    return tableOfContents(format, packet.byte(6), msf, this.#tray.blocks) ?? SENSE.badField;
  }

  /** Polled alone: there is no other way to be told. */
  #events(packet: Packet): Answer {
    if (!(packet.byte(1) & 1)) return SENSE.badField;
    const classes = packet.byte(4);
    const event = classes & 0x10 ? this.#tray.takeEvent() : 0;
    return eventStatus(classes, event, this.#tray.mediaStatus);
  }
}

const READS: ReadonlySet<number> = new Set([OPERATION.read10, OPERATION.read12, OPERATION.readCd]);
const isRead = (packet: Packet): boolean => READS.has(packet.byte(0));

function extentOf(packet: Packet): [first: number, blocks: number] {
  const first = packet.long(2);
  if (packet.byte(0) === OPERATION.read10) return [first, packet.short(7)];
  if (packet.byte(0) === OPERATION.read12) return [first, packet.long(6)];
  return [first, packet.long(5) & 0xffffff];
}

/** "READ CD": any or mode 1 sectors, user data alone. */
const wantsUserData = (packet: Packet): boolean =>
  [0, 2].includes((packet.byte(1) >> 2) & 7) &&
  (packet.byte(9) === 0x10 || extentOf(packet)[1] === 0) &&
  packet.byte(10) === 0;

const signatureFile = (status: number): TaskFile => ({
  status,
  error: DIAGNOSTIC_PASSED,
  count: SIGNATURE.packet & 0xff,
  lba: SIGNATURE.packet >>> 8,
  device: 0,
});
