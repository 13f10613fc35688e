// Completion for shells, from the table of commands. The scripts hold the commands, their options and
// those options' values; names of VMs and networks are asked of the daemon when they are needed.
import { ClientError } from "./client.js";
import { type Command, type Commands, type Option, type Options, one } from "./command.js";
import { globalOptions } from "./global-options.js";

const shells = ["bash", "zsh", "fish"] as const;
type Shell = (typeof shells)[number];

interface Word {
  readonly name: string;
  readonly command: Command;
  readonly options: Options;
  /** What its first argument is the name of, where the daemon can be asked. */
  readonly named: Named | undefined;
}

const wordsOf = (commands: Commands): Word[] =>
  Object.entries(commands).map(([name, command]) => ({
    name,
    command,
    options: { ...command.options, ...globalOptions },
    named: namedBy(/^[A-Z]+/.exec(command.arguments)?.[0]),
  }));

const firstWords = (words: readonly Word[]): string[] => [
  ...new Set(words.map(({ name }) => name.split(" ")[0] ?? "")),
];

/** Those of the second word, by the first. */
function families(words: readonly Word[]): [string, string[]][] {
  const two = words.filter(({ name }) => name.includes(" "));
  return firstWords(two).map((first) => [
    first,
    two.flatMap(({ name }) => (name.startsWith(`${first} `) ? [name.slice(first.length + 1)] : [])),
  ]);
}

const flags = (name: string, { short }: Option): string =>
  short === undefined ? `--${name}` : `--${name} -${short}`;
const allFlags = (options: Options): string =>
  Object.entries(options)
    .map(([name, option]) => flags(name, option))
    .join(" ");
const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;

/** What the daemon gives the names of, by the word that stands for one. */
const NAMES = {
  VM: "xhyvectl list -q 2>/dev/null",
  NETWORK: "xhyvectl network list -q 2>/dev/null",
} as const;
type Named = keyof typeof NAMES;

const namedBy = (word: string | undefined): Named | undefined =>
  word !== undefined && Object.hasOwn(NAMES, word) ? (word as Named) : undefined;

/** Options whose value follows, by what it is; the same name means the same everywhere. */
function valued(words: readonly Word[]): { name: string; option: Option }[] {
  const all = new Map<string, Option>();
  for (const { options } of words)
    for (const [name, option] of Object.entries(options))
      if (option.type === "string" && !all.has(name)) all.set(name, option);
  return [...all].map(([name, option]) => ({ name, option }));
}

function bash(words: readonly Word[]): string {
  const values = valued(words).map(({ name, option }) => {
    const pattern = flags(name, option).replaceAll(" ", "|");
    return `    ${pattern}) ${bashValue(option)} return ;;`;
  });
  const second = families(words).map(
    ([first, names]) => `    ${first}) words="${names.join(" ")}" ;;`,
  );
  const options = words.map(({ name, options: own, named }) => {
    const pattern = name.includes(" ") ? `"${name}"` : `"${name}"|"${name} "*`;
    return `    ${pattern}) words=${quoted(allFlags(own))}${named ? `; kind=${named}` : ""} ;;`;
  });
  const kinds = Object.entries(NAMES).map(([kind, names]) => `    ${kind}) words="$(${names})" ;;`);
  return `# bash completion for xhyvectl: eval "$(xhyvectl completion bash)"
_xhyvectl() {
  local cur="\${COMP_WORDS[COMP_CWORD]}" prev="\${COMP_WORDS[COMP_CWORD-1]}" words="" kind="" name=""
  local i positions=0
  COMPREPLY=()
  case "$prev" in
${values.join("\n")}
  esac
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "\${COMP_WORDS[i]}" in -*) ;; *) ((positions < 2)) && name="\${name:+$name }\${COMP_WORDS[i]}"; ((positions++)) ;; esac
  done
  if ((positions == 0)); then
    words=${quoted(`${firstWords(words).join(" ")} ${allFlags(globalOptions)}`)}
  else
    ((positions == 1)) && case "$name" in
${second.join("\n")}
    esac
    [ -n "$words" ] || case "$name" in
${options.join("\n")}
    esac
    [[ "$cur" = -* ]] || case "$kind" in
${kinds.join("\n")}
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -o default -F _xhyvectl xhyvectl
`;
}

function bashValue({ choices, value }: Option): string {
  if (choices !== undefined)
    return `COMPREPLY=($(compgen -W ${quoted(choices.join(" "))} -- "$cur"));`;
  const named = namedBy(value);
  if (named !== undefined) return `COMPREPLY=($(compgen -W "$(${NAMES[named]})" -- "$cur"));`;
  return value === "FILE" ? 'COMPREPLY=($(compgen -f -- "$cur"));' : "";
}

const zshNames = (named: Named): string => `_xhyvectl_${named.toLowerCase()}s`;

const zshText = (text: string): string => text.replace(/[[\]:\\]/g, "\\$&");

function zshOption(name: string, option: Option): string[] {
  const { short, help, choices, value, multiple } = option;
  const names = [`--${name}`, ...(short === undefined ? [] : [`-${short}`])];
  const named = namedBy(value);
  const action =
    choices !== undefined
      ? `(${choices.join(" ")})`
      : value === "FILE"
        ? "_files"
        : named !== undefined
          ? zshNames(named)
          : " ";
  const argument = value === undefined ? "" : `:${zshText(value)}:${action}`;
  return names.map((one) => quoted(`${multiple ? "*" : ""}${one}[${zshText(help)}]${argument}`));
}

function zsh(words: readonly Word[]): string {
  const arms = words.map(({ name, options, named }) => {
    const specs = Object.entries(options).flatMap(([option, row]) => zshOption(option, row));
    const first = named ? `'1:${named}:${zshNames(named)}'` : "";
    return `    ${quoted(name)}) _arguments ${[...specs, first, "'*:file:_files'"].filter(Boolean).join(" ")} ;;`;
  });
  const summaries = firstWords(words).map((first) => {
    const row = words.find(({ name }) => name === first);
    const about = row?.command.summary ?? `${first}s`;
    return `    ${quoted(`${first}:${zshText(about)}`)}`;
  });
  const second = families(words).map(
    ([first, names]) =>
      `    ${first}) if ((CURRENT == 3)); then compadd -- ${names.join(" ")}; return; fi
      name="$name $words[3]"; shift words; ((CURRENT--)) ;;`,
  );
  const asked = Object.entries(NAMES).map(
    ([kind, names]) =>
      `${zshNames(kind as Named)}() { local -a all; all=(\${(f)"$(${names})"}); compadd -a all }`,
  );
  return `#compdef xhyvectl
${asked.join("\n")}
_xhyvectl() {
  local -a commands=(
${summaries.join("\n")}
  )
  if ((CURRENT == 2)); then _describe command commands; return; fi
  local name="$words[2]"
  case "$name" in
${second.join("\n")}
  esac
  shift words; ((CURRENT--))
  case "$name" in
${arms.join("\n")}
  esac
}
if [ "$funcstack[1]" = "_xhyvectl" ]; then _xhyvectl "$@"; else compdef _xhyvectl xhyvectl; fi
`;
}

function fishOption(condition: string, name: string, option: Option): string {
  const { short, help, choices, value, type } = option;
  const named = namedBy(value);
  const values =
    choices !== undefined
      ? ` -x -a ${quoted(choices.join(" "))}`
      : named !== undefined
        ? ` -x -a '(${NAMES[named]})'`
        : type === "string"
          ? ` -r${value === "FILE" ? " -F" : ""}`
          : "";
  const letter = short === undefined ? "" : ` -s ${short}`;
  return `complete -c xhyvectl${condition}${letter} -l ${name}${values} -d ${quoted(help)}`;
}

function fish(words: readonly Word[]): string {
  const first = firstWords(words).map((name) => {
    const about = words.find((word) => word.name === name)?.command.summary ?? `${name}s`;
    return `complete -c xhyvectl -n __fish_use_subcommand -f -a ${name} -d ${quoted(about)}`;
  });
  const seen = (name: string): string =>
    name
      .split(" ")
      .map((word) => `__fish_seen_subcommand_from ${word}`)
      .join("; and ");
  const second = families(words).map(
    ([name, names]) =>
      `complete -c xhyvectl -n ${quoted(`${seen(name)}; and not __fish_seen_subcommand_from ${names.join(" ")}`)} -f -a ${quoted(names.join(" "))}`,
  );
  const options = words.flatMap(({ name, command, named }) => {
    const condition = ` -n ${quoted(seen(name))}`;
    const own = Object.entries(command.options ?? {});
    return [
      ...own.map(([option, row]) => fishOption(condition, option, row)),
      ...(named ? [`complete -c xhyvectl${condition} -f -a '(${NAMES[named]})'`] : []),
    ];
  });
  const everywhere = Object.entries<Option>(globalOptions).map(([name, option]) =>
    fishOption("", name, option),
  );
  return `# fish completion for xhyvectl: xhyvectl completion fish | source
${[...first, ...second, ...options, ...everywhere].join("\n")}
`;
}

const scripts: Readonly<Record<Shell, (words: readonly Word[]) => string>> = { bash, zsh, fish };

export const completionFor = (shell: Shell, commands: Commands): string =>
  scripts[shell](wordsOf(commands));

export const completion = (commands: () => Commands): Command => ({
  arguments: "SHELL",
  summary: "a script that completes commands in bash, zsh or fish",
  operations: [],
  examples: [
    'eval "$(xhyvectl completion bash)"',
    'eval "$(xhyvectl completion zsh)"',
    "xhyvectl completion fish | source",
  ],
  async run({ print }, positionals) {
    const name = one(positionals, "shell");
    const shell = shells.find((known) => known === name);
    if (shell === undefined) throw new ClientError(`it is for ${shells.join(", ")}, not ${name}`);
    print(completionFor(shell, commands()));
  },
});
