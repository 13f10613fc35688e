// The manual page, from the table of commands: man(7)'s macros, as groff and mandoc take them.
import type { Command, Commands, Options } from "./command.js";
import { none } from "./command.js";
import { globalOptions } from "./global-options.js";

/** Text that begins no request and has no escape; hyphens stay what people type. */
const roff = (text: string): string =>
  text
    .replaceAll("\\", "\\e")
    .replaceAll("-", "\\-")
    .replace(/^([.'])/gm, "\\&$1");

const item = (head: string, body: string): string => `.TP\n${head}\n${roff(body)}`;

const optionItems = (options: Options): string[] =>
  Object.entries(options).map(([name, { short, value, help }]) => {
    const names = [...(short === undefined ? [] : [`-${short}`]), `--${name}`];
    const bold = names.map((one) => `\\fB${roff(one)}\\fR`).join(", ");
    return item(value === undefined ? bold : `${bold} \\fI${roff(value)}\\fR`, help);
  });

function section(name: string, command: Command): string[] {
  const { summary, options = {}, notes = [], examples = [] } = command;
  const usage = `\\fBxhyvectl ${roff(name)}\\fR \\fI${roff(command.arguments)}\\fR`;
  const upper = summary.slice(0, 1).toUpperCase() + summary.slice(1);
  return [
    `.SS ${roff(name)}`,
    usage.replace(" \\fI\\fR", ""),
    ".PP",
    roff(`${upper}.`),
    ...optionItems(options),
    ...notes.flatMap((note) => [".PP", roff(note)]),
    ...examples.flatMap((example) => [".PP", ".nf", ".RS", roff(example), ".RE", ".fi"]),
  ];
}

/** Of no date: the same table gives the same page. */
export function manual(commands: Commands): string {
  const lines = [
    '.\\" Written from the table of commands: do not edit.',
    '.TH XHYVECTL 1 "" "xhyved" "User Commands"',
    ".SH NAME",
    "xhyvectl \\- governs the virtual machines of xhyved",
    ".SH SYNOPSIS",
    "\\fBxhyvectl\\fR \\fICOMMAND\\fR [\\fIOPTION\\fR ...]",
    ".SH DESCRIPTION",
    roff(
      "Talks to the daemon over its Unix socket, or over TCP with a token. It can do nothing that the daemon's API cannot.",
    ),
    ".SH OPTIONS",
    "Every command has these, before its name or after it.",
    ...optionItems(globalOptions),
    ".SH COMMANDS",
    ...Object.entries(commands).flatMap(([name, command]) => section(name, command)),
    ".SH EXIT STATUS",
    "0 where it was done; 1 where it was refused or the daemon does not answer.",
    ".SH ENVIRONMENT",
    item("\\fBXHYVED_SOCKET\\fR", "The daemon's socket, where --socket does not say it."),
    item("\\fBNO_COLOR\\fR", "Tables without colours."),
  ];
  return `${lines.join("\n")}\n`;
}

export const manPage = (commands: () => Commands): Command => ({
  arguments: "",
  summary: "this manual as a page for man(1)",
  operations: [],
  examples: ["xhyvectl man | man -l -"],
  async run({ print }, positionals) {
    none(positionals);
    print(manual(commands()));
  },
});
