// A terminal device of the host's: a real serial port, or somebody's pseudo-terminal.
import { closeSync, constants } from "node:fs";
import { isatty, ReadStream } from "node:tty";
import { openByName } from "./file.js";
import { StreamBackend } from "./stream.js";
import { TerminalWriter } from "./writer.js";

const { O_RDWR, O_NOCTTY, O_NONBLOCK } = constants;

function openTerminal(path: string, open: typeof openByName): number {
  const fd = open(path, O_RDWR | O_NOCTTY | O_NONBLOCK);
  if (isatty(fd)) return fd;
  closeSync(fd);
  throw new Error(`${path} is not a terminal`);
}

/** In raw mode while it is open: the guest gets and sends every byte. */
export class TtyBackend extends StreamBackend {
  readonly #input: ReadStream;
  readonly #output: TerminalWriter;

  /** Throws where there is no such terminal: the VM is not started then. */
  constructor(path: string, open = openByName) {
    const fd = openTerminal(path, open);
    const input = new ReadStream(fd);
    const output = new TerminalWriter(fd);
    super(input, output);
    this.#input = input.setRawMode(true);
    this.#output = output;
  }

  override close(): void {
    super.close();
    this.#output.destroy();
    this.#input.setRawMode(false);
    this.#input.destroy();
  }
}
