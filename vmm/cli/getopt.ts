// POSIX getopt as the original's command line has it: bundled flags, an argument in the same word
// or the next, the end at the first word that is no option. Words with two dashes are ours.

export interface Option {
  /** One letter, or the whole word of a long option without its dashes. */
  readonly name: string;
  readonly value: string;
}

export class UsageError extends Error {
  override readonly name = "UsageError";
  readonly exitStatus: number;
  /** The usage text follows the message. */
  readonly showUsage: boolean;

  constructor(message: string, exitStatus = 1, showUsage = false) {
    super(message);
    this.exitStatus = exitStatus;
    this.showUsage = showUsage;
  }
}

/** `spec` as getopt(3) takes it; `long` maps a long option to whether it has an argument. */
export function* getopt(
  words: readonly string[],
  spec: string,
  long: Readonly<Record<string, boolean>>,
): Generator<Option> {
  const rest = [...words];
  for (;;) {
    const word = rest[0];
    if (word === undefined || word === "-" || !word.startsWith("-")) return;
    rest.shift();
    if (word === "--") return;
    if (word.startsWith("--")) yield longOption(word.slice(2), long, rest);
    else yield* bundle(word.slice(1), spec, rest);
  }
}

function* bundle(letters: string, spec: string, rest: string[]): Generator<Option> {
  for (let at = 0; at < letters.length; at++) {
    const name = letters.charAt(at);
    const place = name === ":" ? -1 : spec.indexOf(name);
    if (place < 0) throw new UsageError(`illegal option -- ${name}`, 1, true);
    if (spec[place + 1] !== ":") {
      yield { name, value: "" };
      continue;
    }
    const value = at + 1 < letters.length ? letters.slice(at + 1) : rest.shift();
    if (value === undefined) {
      throw new UsageError(`option requires an argument -- ${name}`, 1, true);
    }
    yield { name, value };
    return;
  }
}

function longOption(word: string, long: Readonly<Record<string, boolean>>, rest: string[]): Option {
  const [name = "", ...values] = word.split("=");
  if (!Object.hasOwn(long, name)) throw new UsageError(`illegal option -- ${name}`, 1, true);
  if (!long[name]) return { name, value: "" };
  const value = values.length > 0 ? values.join("=") : rest.shift();
  if (value === undefined) {
    throw new UsageError(`option requires an argument -- ${name}`, 1, true);
  }
  return { name, value };
}
