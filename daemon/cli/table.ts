// Tables for people: columns as wide as their widest cell; colour only on a terminal.
const ESCAPE = "\x1b[";

export const colours = { green: 32, yellow: 33, red: 31, dim: 2, bold: 1 } as const;

export const paint = (text: string, colour: keyof typeof colours, on: boolean): string =>
  on ? `${ESCAPE}${colours[colour]}m${text}${ESCAPE}0m` : text;

export interface Cell {
  readonly text: string;
  readonly colour?: keyof typeof colours;
}

export function table(
  heads: readonly string[],
  rows: readonly (readonly Cell[])[],
  colour: boolean,
): string {
  const widths = heads.map((head, column) =>
    Math.max(head.length, ...rows.map((row) => row[column]?.text.length ?? 0)),
  );
  const line = (cells: readonly Cell[]): string =>
    cells
      .map(({ text, colour: name }, column) => {
        const last = column === cells.length - 1;
        const padded = last ? text : text.padEnd(widths[column] ?? 0);
        return name === undefined ? padded : paint(padded, name, colour);
      })
      .join("  ");
  const head = line(heads.map((text): Cell => ({ text, colour: "bold" })));
  return `${[head, ...rows.map(line)].join("\n")}\n`;
}

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"] as const;

export function bytes(count: number): string {
  const power = Math.min(UNITS.length - 1, Math.floor(Math.log2(Math.max(1, count)) / 10));
  const value = count / 2 ** (10 * power);
  return `${Number.isInteger(value) ? value : value.toFixed(1)} ${UNITS[power]}`;
}

const SUFFIXES = "bkmgt";

/** "512M", "1g", "1073741824": bytes; a bare number below 1048576 is MiB, as for bhyve. */
export function parseBytes(text: string): number | undefined {
  const parts = /^([0-9]+)([bkmgt]?)$/i.exec(text);
  if (parts === null) return undefined;
  const value = Number(parts[1]);
  const suffix = parts[2]?.toLowerCase() ?? "";
  if (suffix === "") return value < 2 ** 20 ? value * 2 ** 20 : value;
  return value * 2 ** (10 * SUFFIXES.indexOf(suffix));
}
