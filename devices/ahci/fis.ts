// Frame information structures: Serial ATA 3.2, "Transport Layer", "FIS types"; where a port puts
// those that it receives: AHCI 1.3.1, "Received FIS Structure".

export const FIS = {
  hostToDevice: 0x27,
  deviceToHost: 0x34,
  setDeviceBits: 0xa1,
  pioSetup: 0x5f,
} as const;

export const RECEIVED = {
  pioSetup: 0x20,
  deviceToHost: 0x40,
  setDeviceBits: 0x58,
} as const;

export const COMMAND_FIS_LENGTH = 20;
/** Byte 1 of a Register FIS to the device: an update of Command, not of Control. */
const IS_COMMAND = 0x80;
const INTERRUPT = 0x40;
const NOTIFICATION = 0x80;
/** PIO Setup: data go to the host. */
const TO_HOST = 0x20;
const CONTROL_RESET = 0x04;

/** A Register FIS from host to device, taken apart. */
export interface HostFrame {
  /** False: it only says whether the device is held in reset. */
  readonly isCommand: boolean;
  readonly command: number;
  /** 16 bits each. */
  readonly features: number;
  readonly count: number;
  /** 48 bits. */
  readonly lba: number;
  readonly device: number;
  readonly softReset: boolean;
  readonly auxiliary: number;
}

/** undefined: no Register FIS that a device takes. */
export function parseHostFrame(bytes: Uint8Array): HostFrame | undefined {
  const at = (index: number): number => bytes[index] ?? 0;
  if (at(0) !== FIS.hostToDevice) return undefined;
  const low = at(4) | (at(5) << 8) | (at(6) << 16);
  const high = at(8) | (at(9) << 8) | (at(10) << 16);
  return {
    isCommand: (at(1) & IS_COMMAND) !== 0,
    command: at(2),
    features: at(3) | (at(11) << 8),
    count: at(12) | (at(13) << 8),
    lba: high * 2 ** 24 + low,
    device: at(7),
    softReset: (at(15) & CONTROL_RESET) !== 0,
    auxiliary: (at(16) | (at(17) << 8) | (at(18) << 16) | (at(19) << 24)) >>> 0,
  };
}

/** The device's registers as a command leaves them. */
export interface TaskFile {
  readonly status: number;
  readonly error: number;
  readonly count: number;
  readonly lba: number;
  readonly device: number;
}

function registers(type: number, flags: number, file: TaskFile): Uint8Array {
  const { status, error, count, lba, device } = file;
  const [low, high] = [lba % 2 ** 24, Math.floor(lba / 2 ** 24)];
  const bytes = Uint8Array.of(
    ...[type, flags, status, error],
    ...[low & 0xff, (low >> 8) & 0xff, low >> 16, device],
    ...[high & 0xff, (high >> 8) & 0xff, high >> 16, 0],
    ...[count & 0xff, (count >> 8) & 0xff, 0, 0],
    ...[0, 0, 0, 0],
  );
  return bytes;
}

export const deviceToHost = (file: TaskFile, interrupt: boolean): Uint8Array =>
  registers(FIS.deviceToHost, interrupt ? INTERRUPT : 0, file);

/** The last of a data-in command: `file.status` is E_Status, the state after the data. */
export function pioSetup(file: TaskFile, status: number, transferred: number): Uint8Array {
  const bytes = registers(FIS.pioSetup, INTERRUPT | TO_HOST, { ...file, status });
  bytes[15] = file.status;
  bytes[16] = transferred & 0xff;
  bytes[17] = (transferred >> 8) & 0xff;
  return bytes;
}

/** Bits of Status that "Set Device Bits" carries; the others stay. */
export const SET_BITS_STATUS = 0x77;

export function setDeviceBits(
  { status, error }: Pick<TaskFile, "status" | "error">,
  done: number,
  notification = false,
): Uint8Array {
  const flags = INTERRUPT | (notification ? NOTIFICATION : 0);
  const bytes = Uint8Array.of(
    ...[FIS.setDeviceBits, flags, status & SET_BITS_STATUS, error],
    ...[0, 0, 0, 0],
  );
  new DataView(bytes.buffer).setUint32(4, done >>> 0, true);
  return bytes;
}
