// The texts of --help, from the table of commands.
import type { Command, Commands, Options } from "./command.js";
import { globalOptions } from "./global-options.js";

const WIDTH = 96;
const COLUMN = 24;

/** `-k, --kernel FILE` */
export const optionName = (name: string, { short, value }: Options[string]): string =>
  `${short === undefined ? "    " : `-${short}, `}--${name}${value === undefined ? "" : ` ${value}`}`;

const optionLines = (options: Options): string[] =>
  Object.entries(options).map(([name, option]) => {
    const left = `  ${optionName(name, option)}`.padEnd(COLUMN);
    const lines = wrapped(option.help, WIDTH - COLUMN - 1);
    return `${left} ${lines.join(`\n${" ".repeat(COLUMN + 1)}`)}`;
  });

export function wrapped(text: string, width: number): string[] {
  const lines = [""];
  for (const word of text.split(" ")) {
    const last = lines.at(-1) ?? "";
    if (last !== "" && last.length + 1 + word.length > width) lines.push(word);
    else lines[lines.length - 1] = last === "" ? word : `${last} ${word}`;
  }
  return lines;
}

export function usage(commands: Commands): string {
  const lines = Object.entries(commands).map(
    ([name, command]) => `  ${`${name} ${command.arguments}`.padEnd(COLUMN)} ${command.summary}`,
  );
  return `usage: xhyvectl COMMAND [options]

${lines.join("\n")}

${optionLines(globalOptions).join("\n")}

Examples:
  xhyvectl create web -k vmlinuz -i initrd.gz -a "console=ttyS0" -m 512M
  xhyvectl start web && xhyvectl console web
  xhyvectl list --json
`;
}

export function usageOf(name: string, command: Command): string {
  const { options = {}, notes = [], examples = [] } = command;
  const paragraphs = [
    `usage: ${`xhyvectl ${name} ${command.arguments}`.trimEnd()}`,
    command.summary,
    optionLines(options).join("\n"),
    ...notes.map((note) => wrapped(note, WIDTH).join("\n")),
    examples.map((example) => `  ${example}`).join("\n"),
    optionLines(globalOptions).join("\n"),
  ];
  return `${paragraphs.filter((one) => one !== "").join("\n\n")}\n`;
}
