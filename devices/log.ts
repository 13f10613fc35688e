// Lines for the operator about what guests do: few, whatever the guest does.
const LINES = 20;
const PERIOD = 60_000;

/** Passes on at most 20 lines a minute, and says how many it kept. `now` in milliseconds. */
export function limitedLog(
  write: (text: string) => void,
  now: () => number = Date.now,
): (text: string) => void {
  let began = now();
  let count = 0;
  return (text) => {
    if (now() - began >= PERIOD) {
      if (count > LINES) write(`${count - LINES} more lines were not written`);
      began = now();
      count = 0;
    }
    count++;
    if (count <= LINES) write(text);
  };
}
