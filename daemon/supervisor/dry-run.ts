// What a definition would come to, without changing anything: every problem at once, those of the
// host's files too, which a process like the VM's own looks at.
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { Type } from "@sinclair/typebox";
import { hostPathsIn } from "../../api-schema/host-paths.js";
import {
  asVmError,
  type FieldProblem,
  InvalidRequest,
  isErrorCode,
  type Power,
  parse,
  VmDefinition,
  VmError,
  type VmView,
} from "../../api-schema/index.js";
import type { Networks } from "../networks/networks.js";
import type { PathRules } from "../paths.js";
import { definitionProblems } from "./definition-rules.js";
import { launchDefinition } from "./launch-definition.js";

const CHECK = fileURLToPath(new URL("../../vmm/process/check.js", import.meta.url));
const CHECK_TIMEOUT_MS = 20_000;

const Faults = Type.Array(
  Type.Object({
    code: Type.String(),
    details: Type.Array(Type.Union([Type.String(), Type.Number()])),
  }),
);

export interface DryRun {
  readonly definition: VmDefinition;
  readonly power: Power;
  readonly remote: boolean;
  /** The VM that would be changed; none where it would be made. */
  readonly before?: VmView | undefined;
  /** What keeps the registry from taking it. */
  readonly refused: readonly VmError[];
}

/** Resolves with what the VM would be; throws InvalidRequest with all that is wrong. */
export async function dryRun(
  wanted: DryRun,
  { paths, networks }: { readonly paths: PathRules; readonly networks: Networks },
): Promise<VmView> {
  const { definition, remote, before, refused } = wanted;
  const known = hostPathsIn(VmDefinition, before?.definition).map(({ path }) => path);
  const named = paths.problems(VmDefinition, definition, { remote, known });
  // Files that may not be named are not looked at either.
  const faults = named.length > 0 ? [] : await faultsOf(launchDefinition(definition, networks));
  const problems = [
    ...definitionProblems(definition),
    ...named,
    ...[...refused, ...faults].map((error) => placed(error, definition)),
  ];
  const [first] = problems;
  if (first === undefined) return viewOf(wanted);
  const error = new VmError("DRY_RUN_FAILED", [problems.length, first.detail]);
  throw new InvalidRequest(problems, { error });
}

function faultsOf(definition: VmDefinition): Promise<VmError[]> {
  return new Promise((resolve) => {
    const done = (error: Error | null, output: string): void => {
      try {
        if (error !== null) throw new VmError("HOST_PROBE_FAILED", [error.message]);
        resolve(parse(Faults, JSON.parse(output), "faults").map(faultOf));
      } catch (failure) {
        resolve([asVmError(failure)]);
      }
    };
    const child = execFile(process.execPath, [CHECK], { timeout: CHECK_TIMEOUT_MS }, done);
    child.stdin?.on("error", () => {}); // it has ended already, and `done` says how
    child.stdin?.end(JSON.stringify(definition));
  });
}

const faultOf = ({ code, details }: { code: string; details: (string | number)[] }): VmError =>
  isErrorCode(code) ? new VmError(code, details) : new VmError("INTERNAL", [code]);

/** `devices[1]` of an error is `/devices/1` of the body. */
const DEVICE = /^devices\[(\d+)\]$/;

const placed = (error: VmError, definition: VmDefinition): FieldProblem => ({
  in: "body",
  pointer: `#${pointerOf(error, definition)}`,
  detail: error.message,
  code: error.code,
});

/** Errors of files name them first: the field is the one that has that path. */
function pointerOf({ code, details }: VmError, definition: VmDefinition): string {
  if (code.startsWith("VM_")) return "/name";
  const [, index] = DEVICE.exec(String(details[1])) ?? [];
  if (code === "NETWORK_MAC_TAKEN" && index !== undefined) return `/devices/${index}/mac`;
  if (code === "NETWORK_UNUSABLE") return plugOf(String(details[0]), definition);
  const found = hostPathsIn(VmDefinition, definition).find(({ path }) => path === details[0]);
  return found?.pointer ?? "";
}

/** What says where the card `virtio-net SLOT` is plugged in; the card where nothing does. */
function plugOf(card: string, { devices }: VmDefinition): string {
  const at = devices.findIndex(({ type, slot }) => `${type} ${slot}` === card);
  const device = devices[at] ?? {};
  const field = ["network", "backend"].find((name) => Object.hasOwn(device, name));
  return `/devices/${at}${field === undefined ? "" : `/${field}`}`;
}

function viewOf({ definition, power, before }: DryRun): VmView {
  const { uuid, name } = definition;
  if (before !== undefined) return { ...before, name, definition, power };
  const now = new Date().toISOString();
  const status = { state: "defined", generation: 0, resets: 0, restarts: 0 } as const;
  return {
    ...{ uuid, name, definition, power, generation: 1 },
    status: { ...status, observedGeneration: 0 },
    ...{ created: now, changed: now },
  };
}
