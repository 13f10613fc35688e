// A clone whose daemon ends at the worst moment: its disk is copied and named, and no VM defined.
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { type CloneBody, CreateVm, parse, VmDefinition } from "../../api-schema/index.js";
import type { Supervisor } from "../supervisor/supervisor.js";
import { cloneVm } from "./clone.js";
import type { OperationContext } from "./operations.js";

const UUID = "00000000-0000-4000-8000-000000000001";

let folder: string;
let original: VmDefinition;
let body: CloneBody;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "xhyved-clone-"));
  writeFileSync(join(folder, "disk.img"), "content");
  const { power: _, ...wanted } = parse(CreateVm, {
    name: "golden",
    memory: 64 * 2 ** 20,
    boot: { kind: "linux", kernel: "/nowhere" },
    devices: [{ slot: "3:0", type: "virtio-blk", path: join(folder, "disk.img") }],
  });
  original = parse(VmDefinition, { ...wanted, uuid: UUID.replace(/1$/, "0") });
  body = { name: "copy", disks: { "3:0": join(folder, "copy.img") } } as CloneBody;
});
afterEach(() => rmSync(folder, { recursive: true }));

const context: OperationContext = {
  id: "operation",
  signal: new AbortController().signal,
  created: Date.now(),
  progress: () => {},
};

/** Of one VM; `turn` is what happens to the work that waits for its being off. */
function run(turn: <T>(work: Promise<T>) => Promise<T>): Promise<object> {
  const golden = { whileOff: <T>(work: (of: VmDefinition) => Promise<T>) => turn(work(original)) };
  const supervisor = {
    list: () => [],
    find: () => golden,
    check: () => {},
    create: ({ name }: { name: string }) => ({ name }),
  } as unknown as Supervisor;
  return cloneVm(supervisor).run({ from: original.uuid, uuid: UUID, body }, context);
}

it("is taken up where its disk had its name already, and leaves no second name", async () => {
  await new Promise<void>((ended) => {
    void run(async (work) => {
      await work;
      ended();
      return new Promise(() => {}); // the daemon is gone
    });
  });
  expect(readdirSync(folder)).toContain("copy.img.operation");
  expect(await run((work) => work)).toEqual({ vm: UUID, name: "copy" });
  expect(readFileSync(join(folder, "copy.img"), "utf8")).toBe("content");
  expect(readdirSync(folder).sort()).toEqual(["copy.img", "disk.img"]);
});

it("leaves alone what somebody else put there, and what it copied itself it takes away", async () => {
  writeFileSync(join(folder, "copy.img"), "another's");
  await expect(run((work) => work)).rejects.toMatchObject({ code: "FILE_EXISTS" });
  expect(readFileSync(join(folder, "copy.img"), "utf8")).toBe("another's");
  rmSync(join(folder, "copy.img"));
  const refused = run(async (work) => {
    await work;
    throw new Error("the name is taken");
  });
  await expect(refused).rejects.toThrow("the name is taken");
  expect(readdirSync(folder)).toEqual(["disk.img"]);
});
