// What hangs on a port: a disk or a packet device, as the port sees it.
import type { DataFault, SlotCommand } from "./command.js";
import type { TaskFile } from "./fis.js";

/** How a command ended. */
export interface Ending {
  readonly file: TaskFile;
  /** Bytes of data moved. */
  readonly transferred: number;
  /** Data came by PIO: they end with a PIO Setup FIS instead of a Register FIS. */
  readonly pioIn?: boolean;
}

/** The command's ending, or why its data could not be moved. */
export type Finish = (ending: Ending | DataFault) => void;

export interface SataDevice {
  /** What PxSIG shows after a reset. */
  readonly signature: number;
  /** `finish` is called once, at once or later, unless everything was cancelled before. */
  execute(command: SlotCommand, finish: Finish): void;
  /** What is under way touches guest memory no more and does not end. */
  cancel(): void;
  /** COMRESET or software reset; gives the registers that say how it went. Work was cancelled. */
  reset(hard: boolean): TaskFile;
  /** Nothing is under way but what waits for the host. */
  idle(): Promise<void>;
  save(): unknown;
  /** Throws StateError where it is none of this device's; else gives back what takes it over. */
  restore(state: unknown, path: string): () => void;
  dispose(): void;
}

/** What a device may say to its port unasked. */
export interface DeviceLink {
  /** "Asynchronous Notification": the medium changed. */
  notify(): void;
  /** Goes to the operator, at a limited rate. */
  log(text: string): void;
}
