// `xhyvectl apply`: what should be, said in files. Each document is PUT, so that the same again
// changes nothing.
import { isDeepStrictEqual } from "node:util";
import type { DefinitionDraft } from "../../api-schema/client.js";
import type { ErrorCode, StoredNetworkView, VmView } from "../../api-schema/index.js";
import type { BodyOf } from "../../api-schema/operations.js";
import { ClientError } from "./client.js";
import { type Command, type Context, none, seconds, texts } from "./command.js";
import { documentsIn } from "./documents.js";
import { paint } from "./table.js";

type Outcome = "created" | "changed" | "unchanged";

interface Applied {
  readonly kind: Kind;
  readonly name: string;
  readonly outcome: Outcome;
  readonly vm?: VmView;
  readonly network?: StoredNetworkView;
}

/** In the order in which they are put: VMs name networks. */
const KINDS = ["network", "vm"] as const;
type Kind = (typeof KINDS)[number];

interface Wanted {
  readonly kind: Kind;
  readonly name: string;
  readonly body: object;
}

export const apply: Command = {
  arguments: "",
  summary: "make VMs and networks what files say: defines, changes, starts and stops them",
  operations: ["replaceVm", "replaceNetwork"],
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
    "A document with `kind: network` is a network: its name, `backend`, `labels`. Networks come first, wherever they stand.",
  ],
  examples: ["xhyvectl apply -f lab.yaml --wait"],
  async run(context, positionals, values) {
    none(positionals);
    const files = texts(values, "file");
    if (files.length === 0) throw new ClientError("name a file with -f");
    const documents = files.flatMap(documentsIn).map(wantedIn);
    const wanted = KINDS.flatMap((kind) => documents.filter((one) => one.kind === kind));
    const dryRun = values["dry-run"] === true;
    const done: Applied[] = [];
    for (const each of wanted) {
      const one = await putters[each.kind](context, each, dryRun);
      if (!context.json) context.print(line(one, context.colour, dryRun));
      done.push(one);
    }
    if (values.wait === true && !dryRun) await settle(context, done, seconds(values, 60));
    if (context.json) context.print(`${JSON.stringify(done, null, 2)}\n`);
  },
};

function wantedIn(document: object): Wanted {
  const { kind: given = "vm", ...body } = document as { kind?: unknown; name?: unknown };
  const { name } = body;
  if (typeof name !== "string") throw new ClientError("a document has no `name`");
  const kind = KINDS.find((known) => known === given);
  if (kind === undefined)
    throw new ClientError(`${name}: /kind: must be one of ${KINDS.join(", ")}`);
  return { kind, name, body };
}

type Put = (context: Context, wanted: Wanted, dryRun: boolean) => Promise<Applied>;

const putVm: Put = async ({ client }, { kind, name: vm, body }, dryRun) => {
  const before = await client.call("getVm", { vm }).catch(absent("VM_NOT_FOUND"));
  const after = await client
    .call("replaceVm", { vm, body: body as DefinitionDraft, ...(dryRun && { dryRun }) })
    .catch(inDocument(vm));
  const outcome = outcomeOf(before, after, ({ definition, power }) => [definition, power]);
  return { kind, name: after.name, outcome, vm: after };
};

const putNetwork: Put = async ({ client }, { kind, name: network, body }, dryRun) => {
  const unknown = absent("STORED_NETWORK_NOT_FOUND");
  const before = await client.call("getNetwork", { network }).catch(unknown);
  const after = await client
    .call("replaceNetwork", {
      network,
      body: body as BodyOf<"replaceNetwork">,
      ...(dryRun && { dryRun }),
    })
    .catch(inDocument(network));
  const outcome = outcomeOf(before, after, ({ backend, labels, mtu }) => [backend, labels, mtu]);
  return { kind, name: after.name, outcome, network: after };
};

const putters: Readonly<Record<Kind, Put>> = { network: putNetwork, vm: putVm };

/** `said`: what a document says of it. A dry run leaves the generation as it is. */
function outcomeOf<T extends { readonly generation: number }>(
  before: T | undefined,
  after: T,
  said: (view: T) => unknown,
): Outcome {
  if (before === undefined) return "created";
  const same = before.generation === after.generation;
  return same && isDeepStrictEqual(said(before), said(after)) ? "unchanged" : "changed";
}

const absent =
  (code: ErrorCode) =>
  (error: unknown): undefined => {
    if (error instanceof ClientError && error.problem?.code === code) return undefined;
    throw error;
  };

const inDocument =
  (name: string) =>
  (error: unknown): never => {
    if (!(error instanceof ClientError) || error.problem === undefined) throw error;
    const places = error.problem.errors ?? [];
    const all = places.map(({ pointer, detail }) => `\n  ${pointer.slice(1)}: ${detail}`).join("");
    throw new ClientError(
      `${name}: ${all === "" ? error.message : all.trimStart()}`,
      error.problem,
    );
  };

const COLOURS = { created: "green", changed: "yellow", unchanged: "dim" } as const;

const line = ({ kind, name, outcome }: Applied, colour: boolean, dryRun: boolean): string =>
  `${kind === "vm" ? "" : `${kind} `}${name} ${paint(outcome, COLOURS[outcome], colour)}${dryRun ? " (dry run)" : ""}\n`;

/** Until every VM is what was wished for; throws ClientError where one is not in time. */
async function settle({ client }: Context, done: readonly Applied[], limit: number) {
  const deadline = Date.now() + limit * 1000;
  for (const { kind, name } of done) {
    if (kind !== "vm") continue;
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
