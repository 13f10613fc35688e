// Log pages and SMART data of a disk: ACS-3, "READ LOG EXT" and "SMART"; "NCQ Command Error log".
import type { HostFrame } from "./fis.js";

const PAGE = 512;

export const LOG = { directory: 0x00, queueError: 0x10, sendReceive: 0x13 } as const;

/** What went wrong with the last queued command that failed. */
export interface QueueFailure {
  readonly tag: number;
  readonly status: number;
  readonly error: number;
  readonly lba: number;
  readonly count: number;
  readonly device: number;
}

function sealed(bytes: Uint8Array): Uint8Array {
  const sum = bytes.reduce((total, byte) => total + byte, 0);
  bytes[PAGE - 1] = (256 - (sum & 0xff)) & 0xff;
  return bytes;
}

/** "General Purpose Log Directory": a page of each. */
function directory(trims: boolean): Uint8Array {
  const words = new Uint16Array(PAGE / 2);
  words[0] = 1;
  words[LOG.queueError] = 1;
  if (trims) words[LOG.sendReceive] = 1;
  return new Uint8Array(words.buffer);
}

/** Bit 7 of its first byte: the error was not of a queued command. */
function queueError(failure: QueueFailure | undefined): Uint8Array {
  const bytes = new Uint8Array(PAGE);
  if (failure === undefined) {
    bytes[0] = 0x80;
    return sealed(bytes);
  }
  const { tag, status, error, lba, count, device } = failure;
  const [low, high] = [lba % 2 ** 24, Math.floor(lba / 2 ** 24)];
  bytes.set([tag, 0, status, error]);
  bytes.set([low & 0xff, (low >> 8) & 0xff, low >> 16, device], 4);
  bytes.set([high & 0xff, (high >> 8) & 0xff, high >> 16, 0], 8);
  bytes.set([count & 0xff, count >> 8], 12);
  return sealed(bytes);
}

/** "NCQ Send and Receive log": SEND FPDMA QUEUED does DATA SET MANAGEMENT, and that trims. */
function sendReceive(): Uint8Array {
  const bytes = new Uint8Array(PAGE);
  bytes[0] = 1;
  bytes[4] = 1;
  return bytes;
}

/** undefined: there is no such page. */
export function readLog(
  { lba, count }: HostFrame,
  failure: QueueFailure | undefined,
  trims: boolean,
): Uint8Array | undefined {
  const [address, page] = [lba & 0xff, Math.floor(lba / 256) & 0xff];
  if (count !== 1 || page !== 0) return undefined;
  if (address === LOG.directory) return directory(trims);
  if (address === LOG.queueError) return queueError(failure);
  return address === LOG.sendReceive && trims ? sendReceive() : undefined;
}

/** SMART subcommands, in Features; LBA bits 23:8 hold a key. */
export const SMART = {
  key: 0xc24f,
  readData: 0xd0,
  readThresholds: 0xd1,
  autosave: 0xd2,
  offline: 0xd4,
  enable: 0xd8,
  disable: 0xd9,
  returnStatus: 0xda,
} as const;

/** A disk without attributes that wear, whose off-line tests are done. */
export function smartData(): Uint8Array {
  const bytes = new Uint8Array(PAGE);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, 16, true);
  view.setUint16(368, 0x0003, true); // saves its data by itself and when asked
  return sealed(bytes);
}
export function smartThresholds(): Uint8Array {
  const bytes = new Uint8Array(PAGE);
  new DataView(bytes.buffer).setUint16(0, 16, true);
  return sealed(bytes);
}
