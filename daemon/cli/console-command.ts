// `xhyvectl console`: its options, and which of its three ways they mean.
import type { Command, Context, Options } from "./command.js";
import { one, text } from "./command.js";
import { attachConsole, escapeByte, followConsole } from "./console.js";

const options: Options = {
  log: { type: "boolean", help: "print what is kept of the output, and end" },
  all: { type: "boolean", help: "all that is kept first, then go on" },
  follow: {
    type: "boolean",
    short: "f",
    help: "the output alone, over all runs of the VM, until Ctrl-C",
  },
  escape: { type: "string", value: "KEY", help: "the key that leaves, such as ^A, or none (^])" },
};

export const consoleCommand: Command = {
  arguments: "VM",
  summary: "the serial console; Ctrl-] leaves",
  operations: ["readConsole", "streamConsole"],
  options,
  notes: [
    "Where the console is a virtio-console, the guest is told how large the terminal is, and when that changes. A serial line cannot tell it: `resize` (xterm) or `stty rows 40 cols 120` in the guest does.",
  ],
  async run(context, positionals, values) {
    const vm = one(positionals);
    const { client } = context;
    if (values.log === true && values.follow !== true) return printLog(context, vm);
    const offset = values.all === true || values.log === true ? 0 : undefined;
    const streams = { offset, output: process.stdout, notes: process.stderr };
    if (values.follow === true) {
      const interrupted = new AbortController();
      process.once("SIGINT", () => interrupted.abort());
      return followConsole(client, vm, streams, interrupted.signal);
    }
    const leaveBy = escapeByte(text(values, "escape") ?? "^]");
    await attachConsole(client, vm, { ...streams, input: process.stdin, leaveBy });
  },
};

async function printLog({ client }: Context, vm: string): Promise<void> {
  for (let offset = 0; ; ) {
    const { bytes: output, headers } = await client.bytes("readConsole", { vm, offset });
    if (output.length === 0) return;
    process.stdout.write(output);
    offset = headers.offset + output.length;
  }
}
