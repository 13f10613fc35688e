// How commands end: the registers of a device that is at rest again.
import { READY, STATUS } from "./ata.js";
import type { CommandData } from "./command.js";
import type { Ending, Finish } from "./device.js";
import type { TaskFile } from "./fis.js";

export const blank: TaskFile = { status: READY, error: 0, count: 0, lba: 0, device: 0 };

export const done = (registers: Partial<TaskFile> = {}, transferred = 0): Ending => ({
  file: { ...blank, ...registers },
  transferred,
});

export const failed = (error: number, lba = 0): Ending => ({
  file: { ...blank, status: READY | STATUS.error, error, lba },
  transferred: 0,
});

/** Data of the device's own, by PIO. */
export function sendPio(data: CommandData, bytes: Uint8Array, finish: Finish): void {
  const moved = data.write(bytes);
  finish(typeof moved === "string" ? moved : { ...done({}, moved), pioIn: true });
}
