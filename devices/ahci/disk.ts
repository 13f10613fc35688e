// An ATA disk: ACS-3. Data go straight between the backend and the guest's pages, for up to 32 queued
// commands at a time.
import type { BlockBackend } from "../block/backend.js";
import { int, optional, record } from "../state.js";
import { COMMAND, DEVICE, DIAGNOSTIC_PASSED, ERROR, isQueued, SIGNATURE, STATUS } from "./ata.js";
import type { CommandData, SlotCommand } from "./command.js";
import type { DeviceLink, Ending, Finish, SataDevice } from "./device.js";
import { blank, done, failed, sendPio } from "./endings.js";
import { Features, featureState } from "./features.js";
import type { HostFrame, TaskFile } from "./fis.js";
import { GEOMETRY, identifyDisk, MAX_MULTIPLE, MAX_TRIM_BLOCKS } from "./identify.js";
import { LOG, type QueueFailure, readLog, SMART, smartData, smartThresholds } from "./logs.js";
import { mergeRanges, parseTrimRanges, type SectorRange } from "./trim.js";

export interface AtaDiskOptions {
  readonly backend: BlockBackend;
  /** At most 20 characters. */
  readonly serial: string;
  /** At most 40. */
  readonly model: string;
}

/** How a command that moves sectors does it. */
interface Transfer {
  readonly write?: true;
  /** 48-bit addresses and 16-bit counts. */
  readonly wide?: true;
  readonly pio?: true;
  /** In blocks of SET MULTIPLE MODE. */
  readonly multiple?: true;
  readonly fua?: true;
}

const TRANSFERS: ReadonlyMap<number, Transfer> = new Map<number, Transfer>([
  [COMMAND.readSectors, { pio: true }],
  [COMMAND.readSectorsNoRetry, { pio: true }],
  [COMMAND.readSectorsExt, { pio: true, wide: true }],
  [COMMAND.readMultiple, { pio: true, multiple: true }],
  [COMMAND.readMultipleExt, { pio: true, multiple: true, wide: true }],
  [COMMAND.readDma, {}],
  [COMMAND.readDmaNoRetry, {}],
  [COMMAND.readDmaExt, { wide: true }],
  [COMMAND.writeSectors, { write: true, pio: true }],
  [COMMAND.writeSectorsNoRetry, { write: true, pio: true }],
  [COMMAND.writeSectorsExt, { write: true, pio: true, wide: true }],
  [COMMAND.writeMultiple, { write: true, pio: true, multiple: true }],
  [COMMAND.writeMultipleExt, { write: true, pio: true, multiple: true, wide: true }],
  [COMMAND.writeMultipleFuaExt, { write: true, pio: true, multiple: true, wide: true, fua: true }],
  [COMMAND.writeDma, { write: true }],
  [COMMAND.writeDmaNoRetry, { write: true }],
  [COMMAND.writeDmaExt, { write: true, wide: true }],
  [COMMAND.writeDmaFuaExt, { write: true, wide: true, fua: true }],
]);

/** Sectors of the disk: the first, and how many. */
interface Extent {
  readonly first: number;
  readonly sectors: number;
}

type Serve = (command: SlotCommand, finish: Finish) => void;

const failure = optional(
  record({
    tag: int(0, 31),
    status: int(0, 0xff),
    error: int(0, 0xff),
    lba: int(0, 2 ** 48 - 1),
    count: int(0, 0xffff),
    device: int(0, 0xff),
  }),
);
const STATE = record({ features: featureState, queueFailure: failure });

export class AtaDisk implements SataDevice {
  readonly signature = SIGNATURE.disk;
  readonly #options: AtaDiskOptions;
  readonly #backend: BlockBackend;
  readonly #link: DeviceLink;
  readonly #features = new Features(false);
  /** Since a queued command failed, until its log is read: nothing else is done. */
  #queueFailure: QueueFailure | undefined;
  readonly #commands: ReadonlyMap<number, Serve>;

  constructor(options: AtaDiskOptions, link: DeviceLink) {
    this.#options = options;
    this.#backend = options.backend;
    this.#link = link;
    this.#commands = this.#table();
  }

  execute(command: SlotCommand, finish: Finish): void {
    const { frame } = command;
    const answer = isQueued(frame.command) ? this.#queuedFinish(command, finish) : finish;
    const logWanted = isLogRead(frame) && (frame.lba & 0xff) === LOG.queueError;
    const strayTag = isQueued(frame.command) && tagOf(frame) !== command.slot;
    if (strayTag || (this.#queueFailure !== undefined && !logWanted)) {
      answer(failed(ERROR.abort));
      return;
    }
    const transfer = TRANSFERS.get(frame.command);
    const serve = this.#commands.get(frame.command);
    if (transfer) this.#transfer(command, transfer, answer);
    else if (serve) serve(command, answer);
    else answer(failed(ERROR.abort));
  }

  cancel(): void {
    this.#backend.cancel();
  }

  reset(hard: boolean): TaskFile {
    if (hard) this.#features.reset(false);
    this.#queueFailure = undefined;
    return signatureFile();
  }

  idle(): Promise<void> {
    return this.#backend.idle();
  }

  save(): unknown {
    return { features: this.#features.state, queueFailure: this.#queueFailure ?? null };
  }

  restore(state: unknown, path: string): () => void {
    const { features, queueFailure } = STATE(state, path);
    return () => {
      this.#features.state = features;
      this.#queueFailure = queueFailure ?? undefined;
    };
  }

  dispose(): void {
    this.#backend.close();
  }

  #table(): ReadonlyMap<number, Serve> {
    const now = (serve: (frame: HostFrame, data: CommandData) => Ending): Serve => {
      return ({ frame, data }, finish) => finish(serve(frame, data));
    };
    const power = now((frame) => this.#rest(frame.command));
    const nothing = now(() => done());
    return new Map<number, Serve>([
      [COMMAND.identify, (command, finish) => this.#identify(command, finish)],
      [COMMAND.readFpdma, (command, finish) => this.#queued(command, false, finish)],
      [COMMAND.writeFpdma, (command, finish) => this.#queued(command, true, finish)],
      [COMMAND.sendFpdma, (command, finish) => this.#send(command, finish)],
      [
        COMMAND.dataSetManagement,
        ({ frame, data }, finish) => this.#trim(frame.features, frame.count, data, finish),
      ],
      [COMMAND.readVerify, (command, finish) => this.#verify(command, false, finish)],
      [COMMAND.readVerifyNoRetry, (command, finish) => this.#verify(command, false, finish)],
      [COMMAND.readVerifyExt, (command, finish) => this.#verify(command, true, finish)],
      [COMMAND.flush, (_, finish) => this.#flush(finish)],
      [COMMAND.flushExt, (_, finish) => this.#flush(finish)],
      [COMMAND.standbyImmediate, (command, finish) => this.#park(command, finish)],
      [COMMAND.sleep, (command, finish) => this.#park(command, finish)],
      [COMMAND.standby, power],
      [COMMAND.idle, power],
      [COMMAND.idleImmediate, power],
      [COMMAND.checkPower, now(() => done({ count: this.#features.state.power }))],
      [
        COMMAND.setFeatures,
        now((frame) => (this.#features.set(frame) ? done() : failed(ERROR.abort))),
      ],
      [COMMAND.setMultiple, now((frame) => this.#setMultiple(frame.count & 0xff))],
      [COMMAND.readLogExt, (command, finish) => this.#readLog(command, true, finish)],
      [COMMAND.readLogDmaExt, (command, finish) => this.#readLog(command, false, finish)],
      [COMMAND.smart, (command, finish) => this.#smart(command, finish)],
      [COMMAND.diagnostic, now(() => ({ file: signatureFile(), transferred: 0 }))],
      [COMMAND.initializeParameters, nothing],
      [COMMAND.recalibrate, nothing],
      [COMMAND.seek, nothing],
    ]);
  }

  get #sectors(): number {
    const { size, logicalSector } = this.#backend.geometry;
    return Math.floor(size / logicalSector);
  }

  /** The sectors that a frame names; a count of 0 is the largest. undefined: not all on the disk. */
  #extent(frame: HostFrame, wide: boolean, count = frame.count): Extent | undefined {
    const sectors = wide ? count || 0x10000 : count & 0xff || 0x100;
    const first = wide ? frame.lba : narrowAddress(frame);
    if (first === undefined) return undefined;
    return first + sectors <= this.#sectors ? { first, sectors } : undefined;
  }

  #transfer({ frame, data }: SlotCommand, how: Transfer, finish: Finish): void {
    if (how.multiple && this.#features.state.multiple === 0) {
      finish(failed(ERROR.abort));
      return;
    }
    const extent = this.#extent(frame, how.wide ?? false);
    if (extent === undefined) finish(failed(ERROR.idNotFound, frame.lba));
    else if (how.write) this.#write(extent, data, how.fua ?? false, finish);
    else this.#read(extent, data, how.pio ?? false, finish);
  }

  #read({ first, sectors }: Extent, data: CommandData, pioIn: boolean, finish: Finish): void {
    const { logicalSector } = this.#backend.geometry;
    const length = sectors * logicalSector;
    const pieces = data.pieces(length);
    if (typeof pieces === "string") {
      finish(pieces);
      return;
    }
    this.#features.touch();
    this.#backend.read(first * logicalSector, length, pieces, (errno) => {
      if (errno !== 0) this.#hostError("read", first, errno);
      const ending = errno === 0 ? done({}, length) : failed(ERROR.uncorrectable, first);
      finish({ ...ending, pioIn });
    });
  }

  #write({ first, sectors }: Extent, data: CommandData, fua: boolean, finish: Finish): void {
    const { logicalSector, readOnly } = this.#backend.geometry;
    const length = sectors * logicalSector;
    const pieces = data.pieces(length);
    if (typeof pieces === "string") {
      finish(pieces);
      return;
    }
    if (readOnly) {
      finish(failed(ERROR.abort, first));
      return;
    }
    this.#features.touch();
    this.#backend.write(first * logicalSector, length, pieces, (errno) => {
      if (errno !== 0) {
        this.#hostError("write", first, errno);
        finish(failed(ERROR.abort, first));
      } else if (fua || !this.#features.state.writeCache) this.#flush(finish, length);
      else finish(done({}, length));
    });
  }

  #flush(finish: Finish, transferred = 0): void {
    this.#backend.flush((errno) => {
      if (errno !== 0) this.#hostError("flush", 0, errno);
      finish(errno === 0 ? done({}, transferred) : failed(ERROR.abort));
    });
  }

  /** READ and WRITE FPDMA QUEUED: the count is in Features, the tag in Count. */
  #queued({ frame, data }: SlotCommand, write: boolean, finish: Finish): void {
    const extent = this.#extent(frame, true, frame.features);
    if (extent === undefined) finish(failed(ERROR.idNotFound, frame.lba));
    else if (write) this.#write(extent, data, (frame.device & DEVICE.fua) !== 0, finish);
    else this.#read(extent, data, false, finish);
  }

  /** SEND FPDMA QUEUED, "Data Set Management": the subcommand is in Count, its bits in Auxiliary. */
  #send({ frame, data }: SlotCommand, finish: Finish): void {
    const subcommand = (frame.count >> 8) & 0x1f;
    if (subcommand === 0) this.#trim(frame.auxiliary, frame.features, data, finish);
    else finish(failed(ERROR.abort));
  }

  /** Keeps what the log of queued errors says. */
  #queuedFinish({ slot, frame }: SlotCommand, finish: Finish): Finish {
    const { features: count, device } = frame;
    return (ending) => {
      if (typeof ending !== "string" && ending.file.status & STATUS.error) {
        const { status, error, lba } = ending.file;
        this.#queueFailure ??= { tag: slot, status, error, lba, count, device };
      }
      finish(ending);
    };
  }

  #trim(bits: number, blocks: number, data: CommandData, finish: Finish): void {
    const { readOnly, logicalSector } = this.#backend.geometry;
    if (!(bits & 1) || readOnly || blocks < 1 || blocks > MAX_TRIM_BLOCKS) {
      finish(failed(ERROR.abort));
      return;
    }
    const bytes = new Uint8Array(512 * blocks);
    const moved = data.read(bytes);
    if (typeof moved === "string") {
      finish(moved);
      return;
    }
    const ranges = mergeRanges(parseTrimRanges(bytes));
    if (ranges.some(({ first, sectors }) => first + sectors > this.#sectors))
      finish(failed(ERROR.idNotFound));
    else this.#discard(ranges, logicalSector, moved, finish);
  }

  #discard(ranges: readonly SectorRange[], sector: number, moved: number, finish: Finish): void {
    let left = ranges.length;
    if (left === 0) finish(done({}, moved));
    for (const { first, sectors } of ranges)
      this.#backend.discard(first * sector, sectors * sector, (errno) => {
        // A hint: what the host cannot take back stays as it was, which is a right answer.
        if (errno !== 0) this.#hostError("discard", first, errno);
        left--;
        if (left === 0) finish(done({}, moved));
      });
  }

  /** Reads without moving data: the host has checked them when they are read. */
  #verify({ frame }: SlotCommand, wide: boolean, finish: Finish): void {
    this.#features.touch();
    const extent = this.#extent(frame, wide);
    finish(extent === undefined ? failed(ERROR.idNotFound, frame.lba) : done());
  }

  #park({ frame }: SlotCommand, finish: Finish): void {
    this.#flush((ending) => {
      if (typeof ending !== "string" && !(ending.file.status & STATUS.error))
        this.#rest(frame.command);
      finish(ending);
    });
  }
  #rest(command: number): Ending {
    this.#features.rest(command);
    return done();
  }

  #setMultiple(sectors: number): Ending {
    const good = sectors <= MAX_MULTIPLE && (sectors & (sectors - 1)) === 0;
    if (good) this.#features.change({ multiple: sectors });
    return good ? done() : failed(ERROR.abort);
  }

  #identify({ data }: SlotCommand, finish: Finish): void {
    const { serial, model } = this.#options;
    const { geometry } = this.#backend;
    const features = this.#features.state;
    sendPio(data, identifyDisk({ geometry, serial, model, features }), finish);
  }

  #readLog({ frame, data }: SlotCommand, pio: boolean, finish: Finish): void {
    const page = readLog(frame, this.#queueFailure, !this.#backend.geometry.readOnly);
    if (page === undefined) {
      finish(failed(ERROR.abort));
      return;
    }
    if ((frame.lba & 0xff) === LOG.queueError) this.#queueFailure = undefined;
    sendPio(data, page, (ending) =>
      finish(typeof ending === "string" ? ending : { ...ending, pioIn: pio }),
    );
  }

  #smart({ frame, data }: SlotCommand, finish: Finish): void {
    const { smart } = this.#features.state;
    const feature = frame.features & 0xff;
    const refused =
      ((frame.lba >> 8) & 0xffff) !== SMART.key || !(smart || feature === SMART.enable);
    if (refused) finish(failed(ERROR.abort));
    else if (feature === SMART.readData) sendPio(data, smartData(), finish);
    else if (feature === SMART.readThresholds) sendPio(data, smartThresholds(), finish);
    else finish(this.#smartControl(feature));
  }

  #smartControl(feature: number): Ending {
    switch (feature) {
      case SMART.enable:
      case SMART.disable:
        this.#features.change({ smart: feature === SMART.enable });
        return done();
      case SMART.autosave:
      case SMART.offline:
        return done();
      case SMART.returnStatus:
        return done({ lba: SMART.key << 8 }); // no threshold is exceeded
      default:
        return failed(ERROR.abort);
    }
  }

  #hostError(what: string, sector: number, errno: number): void {
    this.#link.log(`${what} at sector ${sector}: the host's error ${errno}`);
  }
}

const tagOf = ({ count }: HostFrame): number => (count >> 3) & 0x1f;

const isLogRead = ({ command }: HostFrame): boolean =>
  command === COMMAND.readLogExt || command === COMMAND.readLogDmaExt;

/** 28 bits with the top ones in Device, or cylinder, head and sector. */
function narrowAddress({ lba, device }: HostFrame): number | undefined {
  const low = lba % 2 ** 24;
  const high = device & 0x0f;
  if (device & DEVICE.lba) return high * 2 ** 24 + low;
  const sector = low & 0xff;
  if (sector === 0 || sector > GEOMETRY.sectors) return undefined;
  return ((low >> 8) * GEOMETRY.heads + high) * GEOMETRY.sectors + sector - 1;
}

const signatureFile = (): TaskFile => ({
  ...blank,
  error: DIAGNOSTIC_PASSED,
  count: SIGNATURE.disk & 0xff,
  lba: SIGNATURE.disk >>> 8,
});
