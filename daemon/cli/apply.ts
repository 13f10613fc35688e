// `xhyvectl apply`: what should be, said in files. Each document is PUT, so that the same again
// changes nothing.
import { isDeepStrictEqual } from "node:util";
import type { DefinitionDraft } from "../../api-schema/client.js";
import type { VmView } from "../../api-schema/index.js";
import { ClientError } from "./client.js";
import { type Command, type Context, none, seconds, texts } from "./command.js";
import { documentsIn } from "./documents.js";
import { paint } from "./table.js";

type Outcome = "created" | "changed" | "unchanged";

interface Applied {
  readonly name: string;
  readonly outcome: Outcome;
  readonly vm?: VmView;
}

export const apply: Command = {
  arguments: "",
  summary: "make VMs what files say: defines, changes, starts and stops them",
  operations: ["replaceVm"],
  options: {
    file: {
      type: "string",
      short: "f",
      multiple: true,
      value: "FILE",
      help: "definitions (YAML or JSON, several documents); - is standard input",
    },
    "dry-run": { type: "boolean", help: "say all that would be wrong, and change nothing" },
    wait: { type: "boolean", help: "until each is what its `power` says" },
    timeout: { type: "string", value: "SECONDS", help: "of --wait, for all together (60)" },
  },
  notes: [
    "A document is a VM's definition with its name, and with `power: running`, `stopped` or `paused` where it should be that. What a document does not name is the default, not what it was: the same file again changes nothing.",
  ],
  examples: ["xhyvectl apply -f lab.yaml --wait"],
  async run(context, positionals, values) {
    none(positionals);
    const files = texts(values, "file");
    if (files.length === 0) throw new ClientError("name a file with -f");
    const wanted = files.flatMap(documentsIn).map(named);
    const dryRun = values["dry-run"] === true;
    const done: Applied[] = [];
    for (const definition of wanted) {
      const one = await put(context, definition, dryRun);
      if (!context.json) context.print(line(one, context.colour, dryRun));
      done.push(one);
    }
    if (values.wait === true && !dryRun) await settle(context, done, seconds(values, 60));
    if (context.json) context.print(`${JSON.stringify(done, null, 2)}\n`);
  },
};

function named(document: object): DefinitionDraft {
  const { name } = document as { name?: unknown };
  if (typeof name !== "string") throw new ClientError("a document has no `name`");
  return document as DefinitionDraft;
}

async function put({ client }: Context, body: DefinitionDraft, dryRun: boolean): Promise<Applied> {
  const before = await client
    .call("getVm", { vm: body.name })
    .catch((error: unknown) => absent(error));
  const vm = await client
    .call("replaceVm", { vm: body.name, body, ...(dryRun && { dryRun }) })
    .catch((error: unknown) => {
      throw inDocument(body.name, error);
    });
  return { name: vm.name, outcome: outcomeOf(before, vm, dryRun), vm };
}

function outcomeOf(before: VmView | undefined, after: VmView, dryRun: boolean): Outcome {
  if (before === undefined) return "created";
  if (!dryRun) return before.generation === after.generation ? "unchanged" : "changed";
  const same = isDeepStrictEqual(before.definition, after.definition);
  return same && before.power === after.power ? "unchanged" : "changed";
}

function absent(error: unknown): undefined {
  if (error instanceof ClientError && error.problem?.code === "VM_NOT_FOUND") return undefined;
  throw error;
}

const inDocument = (name: string, error: unknown): unknown => {
  if (!(error instanceof ClientError) || error.problem === undefined) return error;
  const places = error.problem.errors ?? [];
  const all = places.map(({ pointer, detail }) => `\n  ${pointer.slice(1)}: ${detail}`).join("");
  return new ClientError(`${name}: ${all === "" ? error.message : all.trimStart()}`, error.problem);
};

const COLOURS = { created: "green", changed: "yellow", unchanged: "dim" } as const;

const line = ({ name, outcome }: Applied, colour: boolean, dryRun: boolean): string =>
  `${name} ${paint(outcome, COLOURS[outcome], colour)}${dryRun ? " (dry run)" : ""}\n`;

/** Until every VM is what was wished for; throws ClientError where one is not in time. */
async function settle({ client }: Context, done: readonly Applied[], limit: number) {
  const deadline = Date.now() + limit * 1000;
  for (const { name } of done) {
    let vm = await client.call("getVm", { vm: name });
    const settled = (): boolean => vm.power === powerIn(vm);
    while (!settled() && Date.now() < deadline) {
      const timeout = Math.min(3600, Math.ceil((deadline - Date.now()) / 1000));
      const { generation, status } = vm;
      const seen = { generation, statusGeneration: status.generation };
      vm = await client.call("getVm", { vm: name, ...seen, timeout });
    }
    if (!settled()) throw new ClientError(`${name} is ${vm.status.state}, not ${vm.power}`);
  }
}

const powerIn = ({ status: { state } }: VmView): string =>
  state === "defined" || state === "failed" ? "stopped" : state;
