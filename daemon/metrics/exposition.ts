// The text that Prometheus reads ("Exposition formats", version 0.0.4): families, each with its
// help, its type and its samples together.

export type Labels = Readonly<Record<string, string>>;

export interface Family {
  readonly name: string;
  readonly type: "counter" | "gauge";
  readonly help: string;
  readonly samples: readonly (readonly [labels: Labels, value: number])[];
}

const escapeLabel = (text: string): string =>
  text.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");

const escapeHelp = (text: string): string => text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n");

function sampleLine(name: string, labels: Labels, value: number): string {
  const inner = Object.entries(labels)
    .map(([label, text]) => `${label}="${escapeLabel(text)}"`)
    .join(",");
  return `${name}${inner === "" ? "" : `{${inner}}`} ${value}\n`;
}

/** Families without samples are left out. */
export const exposition = (families: readonly Family[]): string =>
  families
    .filter(({ samples }) => samples.length > 0)
    .map(
      ({ name, type, help, samples }) =>
        `# HELP ${name} ${escapeHelp(help)}\n# TYPE ${name} ${type}\n` +
        samples.map(([labels, value]) => sampleLine(name, labels, value)).join(""),
    )
    .join("");
