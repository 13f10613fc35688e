// Waiting for long work, with a bar on a terminal.
import type { LongOperation } from "../../api-schema/index.js";
import { type Client, ClientError } from "./client.js";
import { bytes } from "./table.js";

/** An answer comes at the latest after so many seconds; then it is asked again. */
const ASK_SECONDS = 30;
const BAR = 24;

export const percent = ({ done, total }: LongOperation["progress"]): string =>
  total === 0 ? "" : `${Math.floor((100 * done) / total)} %`;

/** `[#####-----]  41 %  1.2 GiB of 3 GiB`; what there is to do may not be known yet. */
export function bar(progress: LongOperation["progress"]): string {
  const { done, total, unit } = progress;
  if (total === 0) return `[${"-".repeat(BAR)}]`;
  const filled = Math.min(BAR, Math.floor((BAR * done) / total));
  const amount = (count: number): string => (unit === "bytes" ? bytes(count) : `${count}`);
  const what = unit === "bytes" ? "" : ` ${unit}`;
  return `[${"#".repeat(filled)}${"-".repeat(BAR - filled)}] ${percent(progress).padStart(5)}  ${amount(done)} of ${amount(total)}${what}`;
}

/** Resolves when it has succeeded; throws ClientError with what it failed with. */
export async function finished(client: Client, begun: LongOperation): Promise<LongOperation> {
  const screen = process.stderr.isTTY === true;
  let operation = begun;
  while (operation.state === "running") {
    if (screen) process.stderr.write(`\r\x1b[K${bar(operation.progress)}`);
    const timeout = screen ? 1 : ASK_SECONDS;
    operation = await client.call("getOperation", { operation: operation.id, timeout });
  }
  if (screen) process.stderr.write("\r\x1b[K");
  if (operation.state === "failed") throw new ClientError(operation.error?.detail ?? "it failed");
  if (operation.state === "cancelled") throw new ClientError("it was cancelled");
  return operation;
}
